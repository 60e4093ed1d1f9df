//! Ruby and Python, as others built them, run scripts. `cargo xtask test --all` fetches them.

use std::fs;

use crate::harness::app::App;
use crate::harness::interpreters::interpreter;
use crate::harness::message::request;
use crate::harness::root;

/// An app whose interpreter finds `script`, and a directory with its library where it needs one.
fn app(name: &str, extension: &str, script: &str) -> App {
    let manifest = format!(
        "[app]\nname = \"scripts\"\n[[http]]\nroute = \"/...\"\ncomponent = \"it\"\n\
         [component.it]\nsource = \"{name}.wasm\"\n[component.it.cgi.scripts]\nroot = \"/site\"\n\
         extensions = [\"{extension}\"]\n[component.it.grants.files]\n\"/site\" = {{ host = \"site\" }}\n"
    );
    let app = App::of_manifest(&manifest).with_file(&format!("site/test.{extension}"), script);
    fs::copy(interpreter(name), app.path(&format!("{name}.wasm"))).expect("a copy");
    app
}

/// Asks in the ways that both scripts know.
fn answers(app: &App, flags: &[&str], path: &str) {
    let server = app.up_with(flags);
    let posted = request("POST", &format!("{path}?-x+y"), &[("X-One", "1")], "body");
    let answer = server.connect().ask(&posted);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.text(), "POST -x+y 1 body []\n");
    let script = app.path(&format!("site{path}"));
    let text = fs::read_to_string(&script).expect("the script");
    fs::write(&script, text.replace("201", "202")).expect("an edit");
    assert_eq!(server.connect().ask(&posted).status, 202);
    assert_eq!(server.get("/missing").status, 404);
}

#[test]
fn ruby_runs_scripts() {
    let script = "puts 'Status: 201', 'Content-Type: text/plain', ''\n\
         puts [ENV['REQUEST_METHOD'], ENV['QUERY_STRING'], ENV['HTTP_X_ONE'], STDIN.read, ARGV.inspect].join(' ')\n";
    answers(&app("ruby", "rb", script), &[], "/test.rb");
}

#[test]
fn python_runs_scripts() {
    let script = "import os, sys\nprint('Status: 201\\nContent-Type: text/plain\\n')\n\
         of = os.environ\n\
         print(of['REQUEST_METHOD'], of['QUERY_STRING'], of['HTTP_X_ONE'], sys.stdin.read(), sys.argv[1:])\n";
    let library = root().join("target/tools/interpreters/usr");
    let library = format!("{}::/usr:ro", library.display());
    answers(
        &app("python", "py", script),
        &["--dir", &library],
        "/test.py",
    );
}
