//! Short writes in one piece. A plain `send` of a few hundred bytes costs the kernel less than a `writev` of three pieces; long
//! ones are worth the pieces, since nothing is copied then.

use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes up to this many bytes are put together.
const GATHERED_BYTES: usize = 1024;

/// A connection whose short vectored writes become plain ones.
pub struct Gather<IO>(pub IO);

impl<IO: AsyncRead + Unpin> AsyncRead for Gather<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gather<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if length > GATHERED_BYTES {
            return Pin::new(&mut self.0).poll_write_vectored(cx, pieces);
        }
        let mut gathered = [0; GATHERED_BYTES];
        let mut room = &mut gathered[..];
        for piece in pieces {
            // They fit: the sum of their lengths was taken above.
            room.write_all(piece)?;
        }
        Pin::new(&mut self.0).poll_write(cx, gathered.get(..length).unwrap_or_default())
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_stay_what_they_are() {
        for length in [0, 1, 1023, 1024, 1025, 5000] {
            let bytes: Vec<u8> = (0..length).map(|nth| (nth % 251) as u8).collect();
            let (near, mut far) = tokio::io::duplex(64);
            let mut near = Gather(near);
            let (head, body) = bytes.split_at(length / 3);
            let writing = async {
                let mut pieces = [IoSlice::new(head), IoSlice::new(body)];
                let mut left = &mut pieces[..];
                while left.iter().any(|piece| !piece.is_empty()) {
                    let written = near.write_vectored(left).await.unwrap();
                    IoSlice::advance_slices(&mut left, written);
                }
                near.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (read, ()) = tokio::join!(far.read_to_end(&mut got), writing);
            read.unwrap();
            assert_eq!(got, bytes);
        }
    }
}
