//! What a module is asked. The original told its modules nothing of it; these functions are in its style: one that is given no
//! room says how much it would need.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{COOKIE, HOST};
use http::request::Parts;
use http_body_util::BodyExt;
use wasmtime::{Caller, Linker, Result};

use super::{Guest, MODULE, Place, count};
use crate::guest::RequestBody;
use crate::state::Host;

/// What a function says of something that is not there.
const NONE: i64 = -1;

/// A request; without one every function says that there is nothing.
#[derive(Default)]
pub(crate) struct Asked {
    head: Option<Parts>,
    body: Body,
}

/// A body, as far as it was read.
#[derive(Default)]
struct Body {
    /// What comes; `None` once it has ended.
    coming: Option<RequestBody>,
    /// What the host has, and the module has not read.
    here: Bytes,
    /// It broke off, or is more than the host keeps.
    failed: bool,
}

impl Asked {
    pub(crate) fn new(head: Parts, body: RequestBody) -> Self {
        Self {
            head: Some(head),
            body: Body {
                coming: Some(body),
                ..Body::default()
            },
        }
    }

    fn uri(&self) -> Option<&str> {
        let path = self.head.as_ref()?.uri.path_and_query();
        Some(path.map_or("/", |path| path.as_str()))
    }

    /// All values of a field.
    fn field(&self, name: &str) -> Option<Vec<u8>> {
        let head = self.head.as_ref()?;
        let mut values = head
            .headers
            .get_all(name)
            .iter()
            .map(|value| value.as_bytes());
        let Some(first) = values.next() else {
            let authority = head.uri.authority()?;
            let asked = name.eq_ignore_ascii_case(HOST.as_str());
            return asked.then(|| authority.as_str().as_bytes().to_vec());
        };
        // HTTP/2 clients send the cookies one by one, and their list has a separator of its own.
        let separator: &[u8] = match name.eq_ignore_ascii_case(COOKIE.as_str()) {
            true => b"; ",
            false => b", ",
        };
        Some(values.fold(first.to_vec(), |mut all, value| {
            all.extend_from_slice(separator);
            all.extend_from_slice(value);
            all
        }))
    }

    /// All fields, each a line.
    fn fields(&self) -> Option<Vec<u8>> {
        let mut lines = Vec::new();
        let mut line = |name: &[u8], value: &[u8]| {
            for part in [name, b": ", value, b"\r\n"] {
                lines.extend_from_slice(part);
            }
        };
        let head = self.head.as_ref()?;
        if let (None, Some(authority)) = (head.headers.get(HOST), head.uri.authority()) {
            line(HOST.as_str().as_bytes(), authority.as_str().as_bytes());
        }
        for (name, value) in &head.headers {
            line(name.as_str().as_bytes(), value.as_bytes());
        }
        Some(lines)
    }
}

/// Puts its functions into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        MODULE,
        "request_method",
        |caller: Caller<'_, Host>, at: i32, length: i64| {
            let mut guest = Guest(caller);
            let head = guest.exchange().asked.head.as_ref();
            let method = head.map(|head| head.method.clone());
            let method = method.as_ref().map(|method| method.as_str().as_bytes());
            give(&mut guest, (at, length), method)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "request_uri",
        |caller: Caller<'_, Host>, at: i32, length: i64| {
            let mut guest = Guest(caller);
            let uri = guest.exchange().asked.uri().map(str::to_owned);
            give(&mut guest, (at, length), uri.as_ref().map(String::as_bytes))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "request_header",
        |caller: Caller<'_, Host>, name: i32, name_length: i64, at: i32, length: i64| {
            let mut guest = Guest(caller);
            let name = guest.text((name, name_length))?;
            let value = name.and_then(|name| guest.exchange().asked.field(&name));
            give(&mut guest, (at, length), value.as_deref())
        },
    )?;
    linker.func_wrap(
        MODULE,
        "request_headers",
        |caller: Caller<'_, Host>, at: i32, length: i64| {
            let mut guest = Guest(caller);
            let fields = guest.exchange().asked.fields();
            give(&mut guest, (at, length), fields.as_deref())
        },
    )?;
    linker.func_wrap_async(MODULE, "request_body", |caller, place: Place| {
        Box::new(async move { whole(&mut Guest(caller), place).await })
    })?;
    linker.func_wrap_async(MODULE, "request_body_read", |caller, place: Place| {
        Box::new(async move { next(&mut Guest(caller), place).await })
    })?;
    Ok(())
}

fn give(guest: &mut Guest<'_>, place: Place, value: Option<&[u8]>) -> Result<i64> {
    match value {
        Some(value) => guest.give(place, value),
        None => Ok(NONE),
    }
}

/// All of the body that the module has not read, once all has come; it stays there to be read.
async fn whole(guest: &mut Guest<'_>, place: Place) -> Result<i64> {
    let mut body = std::mem::take(&mut guest.exchange().asked.body);
    if body.coming.is_some() {
        let gathered = gather(guest.host(), &mut body).await;
        if let Err(why) = gathered {
            body = Body {
                failed: true,
                ..Body::default()
            };
            guest.trouble(&format!("the body of a request cannot be read: {why}"));
        }
    }
    let (here, failed) = (body.here.clone(), body.failed);
    guest.exchange().asked.body = body;
    match failed {
        true => Ok(NONE),
        false => guest.give(place, &here),
    }
}

async fn gather(host: &mut Host, body: &mut Body) -> std::result::Result<(), String> {
    let mut all = BytesMut::from(&*body.here);
    while let Some(coming) = &mut body.coming {
        let Some(frame) = coming.frame().await else {
            body.coming = None;
            break;
        };
        let frame = frame.map_err(|error| error.to_string())?;
        if let Ok(data) = frame.into_data() {
            let kept = host.meter.keep(data.len());
            kept.map_err(|error| {
                host.meter.release(all.len() + data.len());
                error.to_string()
            })?;
            all.extend_from_slice(&data);
        }
    }
    body.here = all.freeze();
    Ok(())
}

/// The next bytes of the body; none at its end.
async fn next(guest: &mut Guest<'_>, place: Place) -> Result<i64> {
    let (area, host) = guest.area(place)?;
    let body = &mut host.exchange().asked.body;
    if area.is_empty() {
        return Ok(0);
    }
    while body.here.is_empty() {
        let Some(coming) = &mut body.coming else {
            return Ok(if body.failed { NONE } else { 0 });
        };
        match coming.frame().await {
            None => body.coming = None,
            Some(Ok(frame)) => body.here = frame.into_data().unwrap_or_default(),
            Some(Err(_)) => {
                body.coming = None;
                body.failed = true;
            }
        }
    }
    let length = area.len().min(body.here.len());
    if let Some(to) = area.get_mut(..length) {
        body.here.copy_to_slice(to);
    }
    count(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_values_are_one_list() {
        let request = http::Request::get("/")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("accept", "x")
            .header("accept", "y");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let asked = Asked {
            head: Some(head),
            body: Body::default(),
        };
        for (name, value) in [("Cookie", "a=1; b=2"), ("accept", "x, y")] {
            assert_eq!(asked.field(name).as_deref(), Some(value.as_bytes()));
        }
        assert_eq!(asked.field("no field"), None);
    }
}
