//! What several gateways share over Redis, apart from counts: keys and overrides, and the boards beneath both.

mod board;
mod keys;
mod overrides;

use crate::support::redis::Redis;
use crate::support::running::{Folder, Running, Setup};
use std::net::SocketAddr;
use std::process::Command;
use tollgate::process::Source;

/// A configuration that counts in this Redis, in a folder.
struct Fleet {
    folder: Folder,
}

impl Fleet {
    fn new(redis: &Redis, upstream: SocketAddr, rest: &str) -> Fleet {
        // As patient as a busy machine needs it.
        let store = format!("[store]\nkind = \"redis\"\nurls = [\"{}\"]\ncommand_timeout = \"10s\"\n", redis.url());
        let fleet = Fleet { folder: Folder::new() };
        let text = Setup::new(upstream).with(&store).with(rest).toml();
        fleet.folder.put("tollgate.toml", &text);
        fleet.folder.put("keys.toml", &crate::support::running::keys());
        fleet
    }

    /// The same with its keys in Redis too.
    fn with_shared_keys(self) -> Fleet {
        let path = self.folder.path("tollgate.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        self.folder.put("tollgate.toml", &text.replace("keys_file = \"keys.toml\"", "store = \"redis\""));
        self
    }

    /// One gateway more.
    #[track_caller]
    fn gateway(&self) -> Running {
        Running::start(Source::File(self.folder.path("tollgate.toml")))
    }

    /// `tollgate keys` with this configuration: whether it succeeded, its output and its notes.
    fn keys(&self, words: &[&str]) -> (bool, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("keys").args(words).arg("--config").arg(self.folder.path("tollgate.toml"));
        let done = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.success(), text(done.stdout), text(done.stderr))
    }

    /// A key of this account, made by the command: its secret.
    #[track_caller]
    fn key(&self, id: &str, account: &str) -> String {
        let (fine, secret, notes) = self.keys(&["new", "--id", id, "--account", account]);
        assert!(fine, "{notes}");
        secret.trim().to_owned()
    }
}
