//! Files of snapshots on their way.

#[cfg(virtflow_sim)]
pub(crate) use at_once::{File, copy};
#[cfg(not(virtflow_sim))]
pub(crate) use tokio::fs::{File, copy};

/// A simulation has no threads beside its own: files are read and written in its turn.
#[cfg(virtflow_sim)]
mod at_once {
    use std::io::{self, Read, Write};
    use std::path::Path;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    #[derive(Debug)]
    pub(crate) struct File(std::fs::File);

    impl File {
        pub(crate) async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
            std::fs::File::open(path).map(Self)
        }
        pub(crate) async fn create_new(path: impl AsRef<Path>) -> io::Result<Self> {
            std::fs::File::create_new(path).map(Self)
        }
    }

    impl AsyncRead for File {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let read = self.0.read(buffer.initialize_unfilled());
            Poll::Ready(read.map(|n| buffer.advance(n)))
        }
    }

    impl AsyncWrite for File {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(self.0.write(bytes))
        }
        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(self.0.flush())
        }
        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    pub(crate) async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
        std::fs::copy(from, to)
    }
}
