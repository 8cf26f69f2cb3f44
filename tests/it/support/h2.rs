//! HTTP/2 by the `h2` crate, for both ends, where frames themselves do not matter.

use super::wait::PATIENCE;
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A client's end of a connection.
pub(crate) struct Client {
    pub(crate) sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        // As browsers do before they know how many streams they may begin.
        Client::with(Builder::new().initial_max_send_streams(100), address).await
    }

    pub(crate) async fn with(builder: &Builder, address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Client::over(builder, socket).await
    }

    pub(crate) async fn over<IO>(builder: &Builder, stream: IO) -> Client
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        Client { sender, driver: tokio::spawn(connection) }
    }

    /// Begins a request.
    pub(crate) async fn begin(&mut self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let ready = self.sender.clone().ready();
        let mut sender = within(ready).await.unwrap();
        sender.send_request(request, ends).unwrap()
    }

    /// Sends a whole request and reads its answer.
    pub(crate) async fn ask(&mut self, request: Request<()>, body: impl Into<Bytes>) -> Answer {
        self.try_ask(request, body).await.unwrap()
    }

    pub(crate) async fn try_ask(&mut self, request: Request<()>, body: impl Into<Bytes>) -> Result<Answer, h2::Error> {
        let body = body.into();
        let (response, mut stream) = self.begin(request, body.is_empty()).await;
        if !body.is_empty() {
            // A refusal may have come already, and then the body is not wanted.
            let _ = stream.send_data(body, true);
        }
        read(within(response).await?).await
    }

    /// How the connection ended, which something else must have asked for.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        drop(self.sender);
        within(self.driver).await.unwrap()
    }
}

/// Reads an answer to its end.
pub(crate) async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = within(stream.data()).await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = within(stream.trailers()).await?.unwrap_or_default();
    Ok(Answer { status: parts.status, headers: parts.headers, body: body.into(), trailers })
}

/// What comes of something that takes far less time than this waits.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("not in time")
}

/// A request by this key.
pub(crate) fn request(method: Method, path: &str, secret: &str) -> Request<()> {
    let uri = format!("http://api.test{path}");
    Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {secret}")).body(()).unwrap()
}

/// A runtime for a test that holds both ends.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// What a scripted upstream does with a request.
type Deed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An upstream that speaks HTTP/2 until it is dropped.
pub(crate) struct H2Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl H2Upstream {
    pub(crate) fn scripted<F>(
        deed: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        H2Upstream::with(h2::server::Builder::new(), deed)
    }

    pub(crate) fn with<F>(
        builder: h2::server::Builder,
        deed: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let deed: Arc<dyn Fn(Request<RecvStream>, SendResponse<Bytes>) -> Deed + Send + Sync> =
            Arc::new(move |request, respond| Box::pin(deed(request, respond)));
        let counts = (Arc::clone(&connections), Arc::clone(&requests));
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::SeqCst);
                let (builder, deed, requests) = (builder.clone(), Arc::clone(&deed), Arc::clone(&counts.1));
                tokio::spawn(async move {
                    let Ok(mut connection) = builder.handshake::<_, Bytes>(socket).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        requests.fetch_add(1, Ordering::SeqCst);
                        tokio::spawn(deed(request, respond));
                    }
                });
            }
        });
        H2Upstream { address, connections, requests, _runtime: runtime }
    }

    /// Answers everything with 200 and `ok`.
    pub(crate) fn fine() -> H2Upstream {
        H2Upstream::scripted(|_, respond| async { answer(respond, "ok") })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A 200 with this body. Whether it arrives is the other end's business.
pub(crate) fn answer(mut respond: SendResponse<Bytes>, body: &'static str) {
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(Bytes::from_static(body.as_bytes()), true);
    }
}
