//! `cgi`: a program that answers a request, as of CGI 1.1 and of WAGI.
//!
//! The request is its arguments, its environment and its standard input; what it prints is the answer. Every request has a fresh
//! instance.

pub(crate) mod scripts;

use std::sync::Arc;

use http::Request;
use tokio::sync::oneshot;

use crate::abi::http::{Answer, Work};
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody};

/// The guest's work on one request.
pub(super) fn work(
    _guest: Arc<Inner>,
    _request: Request<RequestBody>,
    _call: Call,
    _answer: oneshot::Sender<Answer>,
) -> Work {
    Box::pin(
        async move { Err(Fault::BadGuest("programs do not answer requests yet".into()).into()) },
    )
}
