//! Scripts that run in Redis, called by their hash.

use super::Connection;
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};

/// One script.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    hash: Box<str>,
}

impl Script {
    /// Of this text.
    #[must_use]
    pub fn new(text: &'static str) -> Script {
        Script { text, hash: redis::Script::new(text).get_hash().into() }
    }

    /// Runs it, by its hash; by its text where the server does not know it, as after a restart, a failover or `SCRIPT FLUSH`:
    /// from then on it does.
    ///
    /// # Errors
    /// As the connection or the script says.
    pub async fn run(&self, connection: &mut Connection, keys: &[&[u8]], words: &[Vec<u8>]) -> RedisResult<Value> {
        let by_hash = command("EVALSHA", &self.hash, keys, words);
        match by_hash.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", self.text, keys, words).query_async(connection).await
            }
            answered => answered,
        }
    }
}

fn command(name: &str, script: &str, keys: &[&[u8]], words: &[Vec<u8>]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(*key);
    }
    for word in words {
        command.arg(word.as_slice());
    }
    command
}
