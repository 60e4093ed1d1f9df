//! Messages that a guest writes to the log through `wasi:logging`.

use crate::harness::server::Server;

#[test]
fn a_message_is_one_line_with_its_level_and_context() {
    let server = Server::of("logging-p2");
    for level in ["trace", "debug", "info", "warn", "error", "critical"] {
        server.page(&format!("/?level={level}&context=db&message=all%20well"));
    }
    server.page("/?message=first%0D%0A%5Bforged%5D%20line%1B%5B2J&context=two%0Alines");
    let text = server.stderr().find("the last line", |text| {
        text.contains("forged").then(|| text.to_owned())
    });
    for level in ["trace", "debug", "info", "warn", "error", "critical"] {
        let end = format!("] {level} db: all well");
        let found = text.lines().filter(|line| line.ends_with(&end));
        assert_eq!(found.count(), 1, "{level}: {text}");
    }
    let last = text
        .lines()
        .find(|line| line.contains("forged"))
        .expect("it");
    assert!(last.starts_with("[logging-p2 "), "{last}");
    assert!(
        last.ends_with("] info two\\x0alines: first\\x0d\\x0a[forged] line\\x1b[2J"),
        "{last}"
    );
}

#[test]
fn a_flood_of_messages_costs_the_app_its_share_of_the_log_and_no_more() {
    let server = Server::of("logging-p2");
    server.page("/?times=1000&bytes=60000");
    server.stderr().find("the loss", |text| {
        text.contains("log lines of app logging-p2 were lost")
            .then_some(())
    });
    server.is_alive("/?message=later");
}
