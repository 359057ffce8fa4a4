//! The gate of `cargo bench -- --gate`: which figures it lets pass.

#[path = "../benches/speed/gate.rs"]
mod gate;

use gate::{Figure, Recorded};

fn figure(name: &str, reached: f64, at_most: bool) -> Figure {
    Figure { name: name.to_owned(), reached, at_most }
}

fn recorded() -> Recorded {
    Recorded::of("a machine".to_owned(), &[figure("speed", 0.8, false), figure("cost", 0.6, true)])
}

/// The rows that are complained of.
fn behind(figures: &[Figure]) -> Vec<String> {
    let name = |complaint: String| complaint.split(':').next().unwrap_or_default().to_owned();
    recorded().complaints(figures).into_iter().map(name).collect()
}

#[test]
fn a_ratio_that_fell_is_named() {
    assert_eq!(behind(&[figure("speed", 0.67, false), figure("cost", 0.6, true)]), ["speed"]);
    assert_eq!(behind(&[figure("speed", 0.8, false), figure("cost", 0.70, true)]), ["cost"]);
    assert_eq!(behind(&[figure("speed", 0.1, false), figure("cost", 9.0, true)]), ["speed", "cost"]);
}

#[test]
fn what_is_within_15_percent_or_better_passes() {
    for (speed, cost) in [(0.8, 0.6), (0.69, 0.68), (5.0, 0.01)] {
        assert_eq!(behind(&[figure("speed", speed, false), figure("cost", cost, true)]), [""; 0]);
    }
}

#[test]
fn what_nobody_recorded_and_what_is_no_number_does_not_pass() {
    assert_eq!(behind(&[figure("new", 1.0, false)]), ["new"]);
    assert_eq!(behind(&[figure("speed", f64::NAN, false), figure("cost", f64::NAN, true)]), ["speed", "cost"]);
}

#[test]
fn the_file_says_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recorded.json");
    recorded().write(&path).unwrap();
    assert_eq!(Recorded::read(&path).unwrap(), recorded());
    std::fs::write(&path, "{").unwrap();
    assert!(Recorded::read(&path).is_err());
}

#[test]
fn recording_some_rows_keeps_the_others_of_the_same_machine() {
    let some = |machine: &str| Recorded::of(machine.to_owned(), &[figure("speed", 0.9, false)]);
    let all = some("a machine").over(recorded());
    assert_eq!(all.rows, [("cost".to_owned(), 0.6), ("speed".to_owned(), 0.9)].into());
    assert_eq!(some("another").over(recorded()), some("another"));
}

/// A row that was renamed and not recorded again would fail every gate.
#[test]
fn the_recorded_file_of_the_project_can_be_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/recorded.json");
    let recorded = Recorded::read(&path).unwrap();
    assert!(recorded.rows.len() > 10 && !recorded.machine.is_empty(), "{recorded:?}");
    assert!(recorded.rows.values().all(|reached| reached.is_finite() && *reached >= 0.0), "{recorded:?}");
}
