//! What the S3 library says when something fails, in the words of stores.

use std::error::Error as StdError;
use std::iter::successors;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

use super::super::Error;
use crate::Failure;

/// The longest text that is passed on; servers write pages.
const TEXT_CHARS: usize = 300;

/// Sorts an error by who must act. `silence` is the time that the client gives a server that does not move.
pub(super) fn classify(error: object_store::Error, silence: Duration) -> Error {
    use object_store::Error as Said;
    if let Said::NotFound { .. } = error {
        return Error::NoObject;
    }
    let causes = || successors(Some(&error as &dyn StdError), |error| (*error).source());
    // The library's own words name the request and its times; what it is about comes last.
    let text = causes()
        .last()
        .map(|cause| shortened(&cause.to_string()))
        .unwrap_or_default();
    let http = causes().find_map(|cause| cause.downcast_ref::<HttpError>().map(HttpError::kind));
    let status = text
        .split_once("status code: ")
        .and_then(|(_, code)| code.get(..3));
    let says = |word: &str| text.contains(word);
    // A listing's error has no kind of its own for what is not there.
    if says("<Code>NoSuchBucket</Code>") {
        return Error::NoObject;
    }
    let failure = match (&error, http, status) {
        (Said::PermissionDenied { .. } | Said::Unauthenticated { .. }, ..) => {
            Failure::Refused(text)
        }
        (_, Some(HttpErrorKind::Timeout), _) => Failure::TimedOut(silence),
        (
            _,
            Some(HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Interrupted),
            _,
        ) => Failure::Unavailable(text),
        (.., Some("401" | "403")) => Failure::Refused(text),
        (.., Some("507")) => Failure::Full(text),
        _ if says("StorageFull") || says("QuotaExceeded") => Failure::Full(text),
        (.., Some("500" | "502" | "503" | "504")) => Failure::Unavailable(text),
        _ => Failure::Broken(text),
    };
    failure.into()
}

fn shortened(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl StdError + Send + Sync + 'static) -> Error {
        let error = object_store::Error::Generic {
            store: "S3",
            source: Box::new(source),
        };
        classify(error, Duration::from_secs(2))
    }

    #[test]
    fn errors_are_sorted_by_who_must_act() {
        let http = |kind| generic(HttpError::new(kind, std::io::Error::other("cause")));
        assert_eq!(
            http(HttpErrorKind::Timeout),
            Failure::TimedOut(Duration::from_secs(2)).into()
        );
        assert_eq!(
            http(HttpErrorKind::Connect),
            Failure::Unavailable("cause".to_owned()).into()
        );
        assert_eq!(
            http(HttpErrorKind::Decode),
            Failure::Broken("cause".to_owned()).into()
        );
        let status = |text: &str| generic(std::io::Error::other(text.to_owned()));
        assert!(matches!(
            status("status code: 507 Full"),
            Error::Failed(Failure::Full(_))
        ));
        assert!(matches!(
            status("<Code>XMinioStorageFull</Code>"),
            Error::Failed(Failure::Full(_))
        ));
        assert!(matches!(
            status("status code: 503 Slow\nDown"),
            Error::Failed(Failure::Unavailable(_))
        ));
        assert!(matches!(
            status("status code: 403 Forbidden"),
            Error::Failed(Failure::Refused(_))
        ));
        // The bucket is what is looked for then.
        assert_eq!(
            status("status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>"),
            Error::NoObject
        );
        assert!(matches!(
            status("status code: 400"),
            Error::Failed(Failure::Broken(_))
        ));
        assert!(status(&"x".repeat(5000)).to_string().len() < 400);
    }
}
