use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hostel_app::grant::FileGrant;
use hostel_app::limits::Limits;
use http_body_util::BodyExt;

use super::*;
use crate::{Role, testing};

/// A folder `site` with these files, and one beside it that nobody is granted.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files
        .iter()
        .copied()
        .chain(["site/.keep", "outside/secret.php"])
    {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "1234").unwrap();
    }
    folder
}

fn scripts() -> Scripts {
    Scripts {
        root: "/site".to_owned(),
        extensions: vec!["php".to_owned()],
        index: vec!["index.php".to_owned()],
        fallback: None,
        assets: vec!["css".to_owned()],
    }
}

fn site(scripts: Scripts, grants: &[(&str, &Path)]) -> Arc<Site> {
    let grant = |(guest, host): &(&str, &Path)| FileGrant::new(guest, host, false).unwrap();
    let grants = Grants {
        files: grants.iter().map(grant).collect(),
        ..Grants::default()
    };
    Arc::new(Site {
        scripts: Scripts {
            root: scripts.root.trim_end_matches('/').to_owned(),
            ..scripts
        },
        grants: Arc::new(grants),
        body_bytes: 1000,
        deadline_ms: None,
        sending: Arc::new(Semaphore::new(1)),
    })
}

fn plain(folder: &tempfile::TempDir) -> Arc<Site> {
    site(scripts(), &[("/site", &folder.path().join("site"))])
}

/// What a path leads to: `FILE REST` of a script, the name of another file, or a word.
fn led(site: &Site, path: &str) -> String {
    match site.find(path).unwrap() {
        Found::Script(script) => format!("{} {}", script.file(), script.rest),
        Found::Asset(file) => file,
        Found::Folder => "slash".to_owned(),
        Found::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn a_path_leads_to_the_file_that_is_in_it_and_the_rest_is_the_script_s() {
    let folder = folder(&[
        "site/a.php",
        "site/b/c d.php",
        "site/b/style.css",
        "site/x.php/real.php",
    ]);
    let site = plain(&folder);
    for (path, to) in [
        ("/a.php", "/site/a.php "),
        ("/a.php/", "/site/a.php /"),
        ("/a.php/x/..%2fy", "/site/a.php /x/..%2fy"),
        ("/b/c%20d.php", "/site/b/c d.php "),
        ("/b/style.css", "/site/b/style.css"),
        ("/b/style.css/more", "nothing"),
        ("/x.php/real.php", "/site/x.php/real.php "),
        ("/a.PHP", "nothing"),
        ("/missing.php", "nothing"),
        ("*", "nothing"),
    ] {
        assert_eq!(led(&site, path), to, "{path}");
    }
}

#[test]
fn a_folder_has_its_index_and_a_slash() {
    let folder = folder(&["site/index.php", "site/b/index.php", "site/empty/x.php"]);
    let site = plain(&folder);
    for (path, to) in [
        ("/", "/site/index.php "),
        ("/b/", "/site/b/index.php "),
        ("/b", "slash"),
        ("/empty", "nothing"),
        ("/empty/", "nothing"),
    ] {
        assert_eq!(led(&site, path), to, "{path}");
    }
}

#[test]
fn only_listed_files_are_found_and_no_hidden_ones() {
    let folder = folder(&[
        "site/a.php.bak",
        "site/config.ini",
        "site/.htaccess",
        "site/.git/x.php",
        "site/.x.php",
        "site/README",
        "site/.well-known/a.css",
    ]);
    let site = plain(&folder);
    for path in [
        "/a.php.bak",
        "/config.ini",
        "/.htaccess",
        "/.git/x.php",
        "/.x.php",
        "/README",
        "/%2egit/x.php",
        "/.well-known/a.css",
    ] {
        assert_eq!(led(&site, path), "nothing", "{path}");
    }
}

#[test]
fn nothing_outside_the_directory_is_found() {
    let folder = folder(&["site/b/a.php"]);
    let inside = folder.path().join("site");
    symlink("../outside", inside.join("out")).unwrap();
    symlink(
        folder.path().join("outside/secret.php"),
        inside.join("secret.php"),
    )
    .unwrap();
    symlink("/proc/self/root", inside.join("whole")).unwrap();
    symlink("loop.php", inside.join("loop.php")).unwrap();
    symlink("b", inside.join("link")).unwrap();
    let site = plain(&folder);
    let outside = folder.path().join("outside/secret.php");
    let through_all = format!("/whole{}", outside.display());
    for path in [
        "/../outside/secret.php",
        "/%2e%2e/outside/secret.php",
        "/..%2foutside/secret.php",
        "/out/secret.php",
        "/secret.php",
        "/loop.php",
        &through_all,
        "//etc/passwd.php",
        "/b/../a.php",
    ] {
        assert_eq!(led(&site, path), "nothing", "{path}");
    }
    assert_eq!(led(&site, "/link/a.php"), "/site/link/a.php ");
}

#[test]
fn what_is_no_file_is_no_script() {
    let folder = folder(&[]);
    let inside = folder.path().join("site");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        inside.join("pipe.php"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(inside.join("socket.css")).unwrap();
    let site = plain(&folder);
    for path in ["/pipe.php", "/socket.css"] {
        assert_eq!(led(&site, path), "nothing", "{path}");
    }
}

#[test]
fn a_path_that_leads_nowhere_is_the_fallback_s() {
    let folder = folder(&["site/app/front.php", "site/a.php"]);
    let site = site(
        Scripts {
            fallback: Some("app/front.php".to_owned()),
            ..scripts()
        },
        &[("/site", &folder.path().join("site"))],
    );
    for (path, to) in [
        ("/a.php", "/site/a.php "),
        ("/", "/site/app/front.php /"),
        ("/blog/2026%20a", "/site/app/front.php /blog/2026%20a"),
        ("/.git/config", "/site/app/front.php /.git/config"),
    ] {
        assert_eq!(led(&site, path), to, "{path}");
    }
    fs::remove_file(folder.path().join("site/app/front.php")).unwrap();
    assert_eq!(led(&site, "/blog"), "nothing");
}

#[test]
fn directories_are_joined_as_the_guest_sees_them() {
    let folder = folder(&["site/a.php", "more/b.php", "site/deep/b.php"]);
    let path = |name: &str| folder.path().join(name);
    let joined = site(
        scripts(),
        &[("/site", &path("site")), ("/site/deep/er/", &path("more"))],
    );
    assert_eq!(led(&joined, "/a.php"), "/site/a.php ");
    assert_eq!(led(&joined, "/deep/b.php"), "/site/deep/b.php ");
    assert_eq!(led(&joined, "/deep/er/b.php"), "/site/deep/er/b.php ");
    // The root itself need not be granted, nor be a folder of its own.
    let below = site(scripts(), &[("/site/blog", &path("more"))]);
    assert_eq!(led(&below, "/blog/b.php"), "/site/blog/b.php ");
    assert_eq!(led(&below, "/a.php"), "nothing");
    let root = Scripts {
        root: "/".to_owned(),
        ..scripts()
    };
    let whole = site(root, &[("/", &path("site"))]);
    assert_eq!(led(&whole, "/deep/b.php"), "/deep/b.php ");
}

#[test]
fn a_directory_that_is_gone_is_an_error_and_not_an_empty_one() {
    let folder = folder(&[]);
    let site = plain(&folder);
    fs::remove_dir_all(folder.path().join("site")).unwrap();
    assert!(site.find("/a.php").is_err());
}

#[test]
fn a_script_is_told_where_it_is() {
    let folder = folder(&["site/a.php"]);
    let site = plain(&folder);
    let Found::Script(script) = site.find("/a.php/x%20y").unwrap() else {
        panic!("no script");
    };
    let uri = "/a.php/x%20y?q=1".parse().unwrap();
    let expected = [
        ("DOCUMENT_ROOT", "/site"),
        ("PATH_INFO", "/x y"),
        ("PATH_TRANSLATED", "/site/x y"),
        ("REDIRECT_STATUS", "200"),
        ("REQUEST_URI", "/a.php/x%20y?q=1"),
        ("SCRIPT_FILENAME", "/site/a.php"),
        ("SCRIPT_NAME", "/a.php"),
        ("X_RAW_PATH_INFO", "/x%20y"),
        ("HTTPS", "on"),
    ];
    let mut env = vec![
        (Cow::Borrowed("PATH_INFO"), "/".to_owned()),
        (Cow::Borrowed("QUERY_STRING"), "q=1".to_owned()),
    ];
    script.tell(&mut env, &uri, &Scheme::HTTPS);
    assert_eq!(env.remove(0), ("QUERY_STRING".into(), "q=1".to_owned()));
    let told: Vec<_> = env
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn what_a_client_sends_is_part_of_one_argument_or_of_none() {
    let script = Script {
        root: "/site".to_owned(),
        name: "/a ${SCRIPT_FILENAME} -x.rb".to_owned(),
        rest: "/-y".to_owned(),
    };
    let file = "/site/a ${SCRIPT_FILENAME} -x.rb";
    let own = ["-W".to_owned()];
    let plain = script.arguments(&Cgi::default(), &own);
    assert_eq!(plain, [&script.name, "-W", file]);
    let cgi = Cgi {
        argv: Some("ruby  -W ${SCRIPT_FILENAME} --of=${SCRIPT_NAME} ${OTHER}".to_owned()),
        ..Cgi::default()
    };
    let of = format!("--of={}", script.name);
    assert_eq!(
        script.arguments(&cgi, &own),
        ["ruby", "-W", file, &of, "${OTHER}"]
    );
}

fn request(method: &str, path: &str, known: &str) -> Request<RequestBody> {
    let body = RequestBody::new(output::text("a body"));
    let request = Request::builder().method(method).uri(path);
    request.header("if-none-match", known).body(body).unwrap()
}

/// The status, a header and the body of an answer of the host.
async fn answer(site: &Arc<Site>, request: Request<RequestBody>, header: &str) -> String {
    let Led::Answered(response) = site.lead(request, Permit::uncounted()).await.unwrap() else {
        return "run".to_owned();
    };
    let value = response.headers().get(header);
    let value = value.map_or("", |value| value.to_str().unwrap()).to_owned();
    let status = response.status().as_u16();
    match response.into_body().collect().await {
        Ok(body) => format!(
            "{status} {value} {}",
            String::from_utf8_lossy(&body.to_bytes()).trim_end()
        ),
        Err(error) => format!("{status} {value} {error:?}"),
    }
}

#[tokio::test]
async fn files_are_sent_as_they_are() {
    let folder = folder(&[
        "site/a.css",
        "site/large.css",
        "site/a.php",
        "site/b/index.php",
    ]);
    let site = plain(&folder);
    let get = |path: &str| request("GET", path, "");
    let css = "text/css; charset=utf-8";
    assert_eq!(
        answer(&site, get("/a.css"), "content-type").await,
        format!("200 {css} 1234")
    );
    assert_eq!(answer(&site, get("/a.php"), "").await, "run");
    let redirect = answer(&site, get("/b?x=1"), "location").await;
    assert_eq!(redirect, "308 /b/?x=1 its path ends with a slash");
    let missing = answer(&site, get("/c.css"), "content-type").await;
    assert_eq!(
        missing,
        "404 text/plain; charset=utf-8 no script or file has this path"
    );
    let posted = answer(&site, request("POST", "/a.css", ""), "allow").await;
    assert_eq!(
        posted,
        "405 GET, HEAD this file can be fetched, nothing else"
    );
    // Another length is another content.
    let tagged = answer(&site, get("/a.css"), "etag").await;
    let tag = tagged.split(' ').nth(1).unwrap();
    let known = format!("\"other\", W/{tag}");
    let again = answer(&site, request("GET", "/a.css", &known), "etag").await;
    assert_eq!(again, format!("304 {tag} "));
    fs::write(folder.path().join("site/a.css"), "12345").unwrap();
    let changed = answer(&site, request("GET", "/a.css", &known), "content-length").await;
    assert_eq!(changed, "200 5 12345");
}

#[tokio::test]
async fn a_file_beyond_the_limit_of_a_body_is_refused() {
    let folder = folder(&["site/a.css"]);
    let site = plain(&folder);
    fs::write(folder.path().join("site/a.css"), vec![b'x'; 1001]).unwrap();
    let refused = site
        .lead(request("GET", "/a.css", ""), Permit::uncounted())
        .await;
    assert!(matches!(refused, Err(Fault::BadGuest(_))));
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_not_waited_for_for_ever() {
    let outcome = within(Some(1), std::future::pending::<Result<(), Fault>>()).await;
    assert!(matches!(outcome, Err(Fault::Deadline(1))));
    assert!(within(Some(1000), async { Ok(()) }).await.is_ok());
    assert!(within(None, async { Ok(()) }).await.is_ok());
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_the_permits_of_those_who_no_longer_wait() {
    let (answers, disk) = std::sync::mpsc::sync_channel::<()>(1);
    let limits = Limits {
        concurrency: 1,
        queue_wait_ms: 20,
        ..Limits::default()
    };
    let code = testing::code("cgi-hello-p1");
    let component = Component {
        limits,
        ..testing::component(&code)
    };
    let app = testing::runtime(None).app("test");
    let guest = app.load(&component, &code, Role::Serve, &|_| {}).unwrap();
    let permit = guest.0.permit().await.unwrap();
    let hangs = on_thread(permit, move || disk.recv().map_err(io::Error::other));
    let asked = within(Some(20), async { Ok(hangs.await) }).await;
    assert!(matches!(asked, Err(Fault::Deadline(20))));
    assert!(matches!(guest.0.permit().await, Err(Fault::Busy(_))));
    answers.send(()).unwrap();
    let mut tries = 0;
    while guest.0.permit().await.is_err() {
        tries += 1;
        assert!(tries < 500, "the permit has come back");
    }
}
