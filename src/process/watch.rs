//! A changed file reloads by itself.
//!
//! What is watched are the files' folders, so that editors that replace a file and orchestrators that swap a link are seen
//! too; and where a file is itself a link, the folder that it leads to. A change counts once the contents have stood still for
//! [`SETTLE`], so that a half-written file is not taken; and only if they differ from what was looked at last, so that a
//! refused file is refused once.
//!
//! Some changes make no event: on a network's disk, or when a folder above is replaced. So files are looked at every [`LOOK`]
//! without one, too.

use super::Control;
use crate::files;
use notify::{RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long contents must stand still.
const SETTLE: Duration = Duration::from_millis(100);

/// How long a change without an event may go unseen.
const LOOK: Duration = Duration::from_secs(5);

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
    let mut watcher = notify::recommended_watcher(noticed);
    if let Err(error) = &watcher {
        tracing::warn!(%error, "files cannot be watched: a change is seen {} seconds late", LOOK.as_secs());
    }
    let mut folders = BTreeSet::new();
    watch_folders(watcher.as_mut().ok(), &mut folders, &control.files());
    loop {
        match settled(&control, known).await {
            Some(latest) => {
                known = reload(&control, latest).await;
                watch_folders(watcher.as_mut().ok(), &mut folders, &control.files());
            }
            // Another file of the folder changed, an access log perhaps: that is looked at so often and not oftener.
            None => tokio::time::sleep(SETTLE).await,
        }
        let event = tokio::time::timeout(LOOK, changes.recv()).await;
        if matches!(event, Ok(None)) {
            // Nothing is watched.
            tokio::time::sleep(LOOK).await;
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

/// Watches the files' folders and no others: the folder that a link leads to is a new one each time the link is swapped.
fn watch_folders(watcher: Option<&mut impl Watcher>, known: &mut BTreeSet<PathBuf>, files: &[PathBuf]) {
    let Some(watcher) = watcher else { return };
    let targets = files.iter().filter_map(|file| file.canonicalize().ok());
    let wanted: BTreeSet<PathBuf> = files.iter().cloned().chain(targets).map(|file| folder_of(&file)).collect();
    for left in known.difference(&wanted) {
        // It fails when the folder is gone, and then so is the watch.
        let _ = watcher.unwatch(left);
    }
    for folder in wanted.difference(known) {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::error!(%error, folder = %folder.display(), "cannot watch a folder: changes are seen late");
        }
    }
    *known = wanted;
}

/// In its one spelling where it exists: two watches on one folder by two names end together.
fn folder_of(file: &Path) -> PathBuf {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// What the files hold. A file that cannot be read counts as empty, and so does one that is not read at all: see [`files`].
pub(super) fn contents(files: &[PathBuf]) -> Contents {
    let mut hasher = Sha256::new();
    for file in files {
        let bytes = files::read(file).unwrap_or_default();
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize().into()
}
