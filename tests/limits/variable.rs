//! The size of one variable's value in a file.

use std::fs;

use hostel_app::limits::VARIABLE_BYTES_MAX;

use crate::harness::app::App;

#[test]
fn a_longer_value_is_not_taken() {
    let most = VARIABLE_BYTES_MAX.size();
    let settings = "config = { v = \"{{ v }}\" }\n[variables]\nv = { required = true }\n";
    let app = App::of("config-p2", settings)
        .with_file("server.toml", "[variables]\nv = { file = \"v\" }\n")
        .with_file("v", "x".repeat(most));
    let config = app.path("server.toml").display().to_string();
    let server = app.up_with(&["--config", &config]);
    let value = |text: String| {
        fs::write(app.path("v"), text).expect("a file");
        server.page("/?key=v")
    };
    assert_eq!(value("x".repeat(most)).len(), "1: <>\n".len() + most);
    let refused = value("x".repeat(most + 1));
    assert!(refused.contains("cannot be had"), "{refused}");
    assert_eq!(value("short".to_owned()), "1: <short>\n");
}
