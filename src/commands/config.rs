//! `config`: a sample, whether the configuration can be used, and which values count.
//!
//! Owns: how it is printed. Does not own: the configuration.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::print;
use crate::cli::ConfigCommand;
use crate::config::keys::{KEYS, LIBRDKAFKA, SECTIONS};
use crate::config::{Config, Loaded, Origin, Setting, sample};
use crate::exit::{Ending, Exit, Failure};

/// Runs the command.
pub(super) fn run(command: &ConfigCommand) -> Ending {
    match command {
        ConfigCommand::Init { output: None } => print(sample().as_bytes()),
        ConfigCommand::Init { output: Some(path) } => write_sample(path),
        ConfigCommand::Validate { config } => {
            let loaded = Config::load(config)?;
            let file = loaded.file.map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
            print(format!("{file}: the configuration can be used\n").as_bytes())
        }
        ConfigCommand::Show { config, effective } => print(shown(&Config::load(config)?, *effective).as_bytes()),
    }
}

fn write_sample(path: &Path) -> Ending {
    let written = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path);
    match written.and_then(|mut file| file.write_all(sample().as_bytes())) {
        Ok(()) => {
            let next = "set kafka.bootstrap, then try `cassandra-cdc check`";
            eprintln!("cassandra-cdc: {} is written: {next}", path.display());
            Ok(Exit::Fine)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Failure::text(Exit::Io, format!("{}: it exists already, and is not overwritten", path.display())))
        }
        Err(error) => Err(Failure::io(path.display(), error)),
    }
}

/// The configuration as a file: what was typed, or with `effective` all that counts and from where.
fn shown(loaded: &Loaded, effective: bool) -> String {
    let is_typed =
        |setting: &&Setting| !matches!(setting.origin, Origin::Default | Origin::Derived(_) | Origin::Yaml(_));
    let settings: Vec<&Setting> = loaded.origins.iter().filter(|setting| effective || is_typed(setting)).collect();
    let mut text = String::new();
    for (section, _) in SECTIONS {
        let mut lines = String::new();
        for key in KEYS.iter().filter(|key| key.section() == section) {
            match settings.iter().find(|setting| setting.key == key.name) {
                Some(setting) => line(&mut lines, key.short(), setting, effective),
                None if effective => drop(writeln!(lines, "# {} is not set", key.short())),
                None => {}
            }
        }
        if !lines.is_empty() {
            let _ = write!(text, "[{section}]\n{lines}\n");
        }
        let mut properties = String::new();
        for setting in settings.iter().filter(|setting| section == "kafka" && setting.key.starts_with(LIBRDKAFKA)) {
            let name = toml::Value::from(setting.key.trim_start_matches(LIBRDKAFKA));
            line(&mut properties, &name.to_string(), setting, effective);
        }
        if !properties.is_empty() {
            let _ = write!(text, "[kafka.librdkafka]\n{properties}\n");
        }
    }
    text
}

fn line(lines: &mut String, name: &str, setting: &Setting, effective: bool) {
    let value = toml::Value::from(setting.shown());
    // Writing to a string can't fail.
    let _ = if effective {
        writeln!(lines, "{:<60} # {}", format!("{name} = {value}"), setting.origin)
    } else {
        writeln!(lines, "{name} = {value}")
    };
}
