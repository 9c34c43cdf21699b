//! First bytes on real sockets.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn the_preface_tells_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (sent, expected) in [
        (&b"PRI * HTTP/2.0\r\n"[..], Some(Protocol::Http2)),
        (b"POST / HTTP/1.1\r\n", Some(Protocol::Http1)),
        (b"PRINT", Some(Protocol::Http1)),
        (b"", None),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(protocol(&accepted).await.unwrap(), expected);
    }
}
