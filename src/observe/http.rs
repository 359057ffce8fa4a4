//! `/livez`, `/readyz`, `/statusz` and `/metrics`, on a thread of their own.
//!
//! Owns: the listener, and which answer has which status. Does not own: the answers. They show tables, positions and
//! errors, never data of rows; who may ask is decided by the address that is listened on.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::connections::Bounded;
use super::{Health, Observe};
use crate::exit::Failure;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens, and answers until the process ends: while it drains somebody may well want to know how far it is. Gives
/// back the address, for a port of 0 was asked for.
///
/// # Errors
/// Nobody can listen there.
pub fn serve(observe: Arc<Observe>, listen: SocketAddr) -> Result<SocketAddr, Failure> {
    let refused = |error: io::Error| Failure::io(cannot_listen(listen, &error), error);
    let listener = TcpListener::bind(listen).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start the runtime that answers HTTP", error))?;
    let answer = move || {
        runtime.block_on(async {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(Bounded::new(listener), routes(observe)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "HTTP at {address} has ended: restart the agent to get it back");
            }
        });
    };
    thread::Builder::new()
        .name("http".to_owned())
        .spawn(answer)
        .map_err(|error| Failure::io("start the thread that answers HTTP", error))?;
    Ok(address)
}

fn cannot_listen(listen: SocketAddr, error: &io::Error) -> String {
    let mut text = format!("listen on {listen} (http.listen)");
    // Writing to a string can't fail.
    let _ = match error.kind() {
        io::ErrorKind::AddrInUse => {
            write!(text, ": another process has this port, perhaps another agent; stop it or choose another port")
        }
        io::ErrorKind::AddrNotAvailable => write!(text, ": this machine has no such address; use 127.0.0.1"),
        io::ErrorKind::PermissionDenied => write!(text, ": choose a port above 1023"),
        _ => Ok(()),
    };
    text
}

fn routes(observe: Arc<Observe>) -> Router {
    Router::new()
        .route("/livez", get(|State(observe): State<Arc<Observe>>| async move { health(&observe.live()) }))
        .route("/readyz", get(|State(observe): State<Arc<Observe>>| async move { health(&observe.ready()) }))
        .route(
            "/statusz",
            get(|State(observe): State<Arc<Observe>>| async move { json(StatusCode::OK, &observe.report()) }),
        )
        .route("/metrics", get(|State(observe): State<Arc<Observe>>| async move { metrics(&observe) }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "/livez /readyz /statusz /metrics\n") })
        // Whoever is idle must not hold one of the few connections.
        .layer(map_response(|response: Response| async { ([(CONNECTION, "close")], response) }))
        .with_state(observe)
}

fn health(health: &Health) -> Response {
    json(if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, health)
}

fn json(code: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (code, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn metrics(observe: &Observe) -> Response {
    match observe.metrics_text() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::exit::Exit;
    use crate::observe::{CdcRaw, Part, Report, Schema, State, Status};

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    /// Status code, headers and body.
    fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    fn started() -> (Arc<Observe>, SocketAddr) {
        let observe = Arc::new(Observe::new());
        let address = serve(Arc::clone(&observe), ANY).unwrap();
        (observe, address)
    }

    #[test]
    fn readyz_follows_the_conditions_and_livez_does_not_depend_on_them() {
        let (observe, address) = started();
        let health = |path| {
            let (code, head, body) = get(address, path);
            assert!(head.contains("content-type: application/json"), "{head}");
            (code, serde_json::from_str::<Health>(&body).unwrap())
        };
        let (code, ready) = health("/readyz");
        assert_eq!((code, ready.ok, ready.conditions.len()), (503, false, 6));
        assert_eq!(health("/livez").0, 200);
        observe.config_valid(true);
        observe.set_status(Status {
            state: State::Running,
            cdc_raw: CdcRaw { readable: true, ..CdcRaw::default() },
            schema: Some(Schema::default()),
            ..Status::default()
        });
        assert_eq!(health("/readyz"), (200, observe.ready()));
        observe.leave(Part::Pump);
        assert_eq!(health("/livez"), (200, observe.live()));
    }

    #[test]
    fn statusz_is_a_report_and_metrics_are_open_metrics() {
        let (observe, address) = started();
        observe.metrics.producer_rebuilds.inc();
        let (code, head, body) = get(address, "/statusz");
        let report: Report = serde_json::from_str(&body).unwrap();
        assert!(code == 200 && head.contains("content-type: application/json"), "{head}");
        assert_eq!((report.version.as_str(), report.status.state), (env!("CARGO_PKG_VERSION"), State::Starting));
        let (code, head, body) = get(address, "/metrics");
        assert!(code == 200 && head.contains(&format!("content-type: {OPEN_METRICS}")), "{head}");
        assert!(body.contains("\ncassandra_cdc_producer_rebuilds_total 1\n") && body.ends_with("# EOF\n"), "{body}");
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let (_, address) = started();
        let (code, _, body) = get(address, "/");
        assert!(code == 404 && body.contains("/readyz"), "{body}");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"POST /livez HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 405 "), "{answer}");
    }

    #[test]
    fn silent_clients_shut_nobody_out_for_long() {
        let (_, address) = started();
        let silent: Vec<TcpStream> =
            (0..super::super::connections::CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!(get(address, "/livez").0, 200, "once the silent ones are cut off");
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "cut off");
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let (observe, address) = started();
        let failure = serve(observe, address).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("another process has this port"), "{text}");
        assert_eq!(failure.exit, Exit::Io, "systemd tries again: the other one may end");
    }
}
