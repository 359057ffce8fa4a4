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
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

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
                Ok(listener) => axum::serve(listener, routes(observe)).await,
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
