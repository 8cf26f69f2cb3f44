//! A changed file reloads by itself.
//!
//! What is watched are the files' folders, so that editors that replace a file and orchestrators that swap a link are seen
//! too. A change counts once the contents have stood still for [`SETTLE`], so that a half-written file is not taken; and only
//! if they differ from what was looked at last, so that a refused file is refused once.

use super::Control;
use notify::{RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long contents must stand still.
const SETTLE: Duration = Duration::from_millis(100);

/// Reloads whenever a file of the running configuration changes, for ever.
pub(super) async fn follow(control: Arc<Control>) {
    let (changed, mut changes) = mpsc::channel(1);
    let noticed = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // Full means that a change is waiting to be looked at already.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = match notify::recommended_watcher(noticed) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::error!(%error, "files cannot be watched: reload with SIGHUP");
            return;
        }
    };
    let mut folders = BTreeSet::new();
    watch_folders(&mut watcher, &mut folders, &control.files());
    let mut known = contents(&control.files());
    while changes.recv().await.is_some() {
        let mut latest = contents(&control.files());
        while latest != known {
            tokio::time::sleep(SETTLE).await;
            let settled = contents(&control.files());
            if settled == latest {
                break;
            }
            latest = settled;
        }
        if latest != known {
            let reloading = Arc::clone(&control);
            // The result is logged and counted where it happens.
            let _ = tokio::task::spawn_blocking(move || reloading.reload().is_ok()).await;
            watch_folders(&mut watcher, &mut folders, &control.files());
            known = contents(&control.files());
        }
    }
}

fn watch_folders(watcher: &mut impl Watcher, known: &mut BTreeSet<PathBuf>, files: &[PathBuf]) {
    for folder in files.iter().map(|file| folder_of(file)) {
        if known.insert(folder.clone())
            && let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive)
        {
            tracing::error!(%error, folder = %folder.display(), "cannot watch a folder: reload with SIGHUP");
        }
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What the files hold, in short. A file that cannot be read counts as empty.
fn contents(files: &[PathBuf]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap_or_default();
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize().into()
}
