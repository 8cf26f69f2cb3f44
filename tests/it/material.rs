//! What operators are given (dashboards, alert rules, pages, containers) refers only to what there is.
//!
//! Files made from the program (the schema, the man pages) are held equal to it; `TOLLGATE_WRITE=1 cargo test --test it material`
//! writes them anew.

mod containers;
mod expression;
mod generated;
mod metrics;
mod profile;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository. A missing one is a failure.
fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All files below a folder of the repository, by their names in it.
fn files_below(folder: &str) -> Vec<String> {
    let (mut folders, mut files) = (vec![PathBuf::from(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() { folders.push(path) } else { files.push(path.to_str().unwrap().to_owned()) }
        }
    }
    files.sort();
    files
}
