//! What a component is given beside the request: arguments, environment, variables.

use crate::harness::app::App;
use crate::harness::server::Server;

#[test]
fn arguments_and_environment_come_from_the_manifest() {
    let server = App::of(
        "env-p2",
        "args = [\"--verbose\", \"two words\"]\nenv = { LANG = \"en\", EMPTY = \"\" }",
    )
    .up();
    let expected = "arg 0: web.wasm\narg 1: --verbose\narg 2: two words\nenv EMPTY=\nenv LANG=en\n";
    assert_eq!(server.page("/"), expected);
}

#[test]
fn the_operator_adds_to_the_environment_and_wins() {
    let app = App::of("env-p2", "env = { LANG = \"en\", KEPT = \"yes\" }");
    let server = app.up_with(&["--env", "LANG=de", "--env", "MORE=a=b"]);
    assert_eq!(
        server.page("/"),
        "arg 0: web.wasm\nenv KEPT=yes\nenv LANG=de\nenv MORE=a=b\n"
    );
}

#[test]
fn a_bare_file_gets_the_environment_of_the_command_line() {
    let page = Server::with("env-p2", &["--env", "A=1"]).page("/");
    assert!(
        page.ends_with("\nenv A=1\n") && page.matches("env ").count() == 1,
        "{page}"
    );
}

#[test]
fn variables_have_defaults_and_are_filled_by_the_operator() {
    let app = App::new(
        "[app]\nname = \"test\"\n\
         [variables]\ntitle = \"Guests\"\nplace = { required = true }\n\
         [[http]]\nroute = \"/...\"\ncomponent = \"web\"\n\
         [component.web]\nsource = \"env-p2.wasm\"\nargs = [\"in {{ place }}\"]\nenv = { TITLE = \"{{ title }}!\" }\n",
    );
    let page = app.up_with(&["--var", "place=Town"]).page("/");
    assert_eq!(page, "arg 0: web.wasm\narg 1: in Town\nenv TITLE=Guests!\n");
    let page = app
        .up_with(&["--var", "place=Town", "--var", "title={{ place }}"])
        .page("/");
    assert_eq!(
        page,
        "arg 0: web.wasm\narg 1: in Town\nenv TITLE={{ place }}!\n"
    );
}
