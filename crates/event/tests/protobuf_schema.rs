//! The generated messages that tests and benches read events with are those of the `.proto` file.

use std::path::Path;

/// Writes the file anew when `REGENERATE` is set.
#[test]
fn the_generated_file_is_the_protos() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(["cassandra_cdc.proto"], [root.join("proto")]).unwrap();
    let modules = vec![(prost_build::Module::from_protobuf_package_name("cassandra_cdc.v1"), &descriptors.file[0])];
    let requests = modules.into_iter().map(|(module, file)| (module, file.clone())).collect();
    let mut config = prost_build::Config::new();
    // Comments would become doc tests.
    config.disable_comments(["."]);
    let generated = config.generate(requests).unwrap().into_values().next().unwrap();
    let path = root.join("tests/generated/cassandra_cdc.v1.rs");
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(generated == checked_in, "run with REGENERATE=1 to write {}", path.display());
}
