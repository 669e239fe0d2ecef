//! The documents name what is there.

use std::path::Path;

/// Every path in backticks in ARCHITECTURE.md exists.
#[test]
fn the_architecture_names_paths_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let paths: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|p| p.contains('/')).collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths.iter().filter(|p| !p.contains(' ') && **p != "PLAN.toml") {
        assert!(root.join(path).exists(), "ARCHITECTURE.md names `{path}`");
    }
}
