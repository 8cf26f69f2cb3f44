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

/// What files held at a moment, in short.
pub(super) type Contents = [u8; 32];

/// Reloads whenever a file of the running configuration changes, for ever. `known` is what the files held when they were
/// loaded: a change between then and the beginning of the watch counts too.
pub(super) async fn follow(control: Arc<Control>, mut known: Contents) {
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
    loop {
        match settled(&control, known).await {
            Some(latest) => {
                known = reload(&control, latest).await;
                watch_folders(&mut watcher, &mut folders, &control.files());
            }
            // Another file of the folder changed, an access log perhaps: that is looked at so often and not oftener.
            None => tokio::time::sleep(SETTLE).await,
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// What the files hold once they have stood still, if that is not `known`.
async fn settled(control: &Control, known: Contents) -> Option<Contents> {
    let mut latest = contents(&control.files());
    while latest != known {
        tokio::time::sleep(SETTLE).await;
        let settled = contents(&control.files());
        if settled == latest {
            return Some(latest);
        }
        latest = settled;
    }
    None
}

/// Reloads, and answers what is known then: what was seen before the reload, so that a change during it counts as one.
async fn reload(control: &Arc<Control>, latest: Contents) -> Contents {
    let before = control.files();
    let reloading = Arc::clone(control);
    // The result is logged and counted where it happens.
    let _ = tokio::task::spawn_blocking(move || reloading.reload().is_ok()).await;
    let after = control.files();
    if after == before { latest } else { contents(&after) }
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

/// What the files hold. A file that cannot be read counts as empty.
pub(super) fn contents(files: &[PathBuf]) -> Contents {
    let mut hasher = Sha256::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap_or_default();
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize().into()
}
