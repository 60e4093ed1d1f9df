//! SQL over HTTP, through `hostel:sql`, in the database `db` (`main` where it is not given).
//!
//! The request's body is a script; each line of it is answered with one line. `execute S` and `query S` run a statement, with
//! parameters after tabs: `i:7`, `f:0.5`, `t:text`, `x:00ff`, `b:true`, `n`. `begin`, `commit` and `rollback` are a
//! transaction; between them statements belong to it. `batches N S` asks for N rows at a time and tells how many came each
//! time, `first N S` asks once and drops the rows, `columns S` tells the names and types. `many S` runs a statement until it
//! fails, `hold` keeps everything open and never returns, `leave` returns with the transaction still open. An error is
//! `error KIND: TEXT`. `GET` of any path lists the table `notes`, which `POST` with `note` adds to: the guestbook of the docs.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/hostel-sql",
        world: "hostel:sql/imports",
        generate_all,
    });
}

use bindings::hostel::sql::database::{Connection, Error, Rows, Transaction, Value};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};

struct Sql;

wasip2::http::proxy::export!(Sql);

impl Guest for Sql {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let db = http_p2::query(&request, "db").unwrap_or("main".to_string());
        let note = http_p2::query(&request, "note");
        let text = match (request.method(), note) {
            (Method::Get, _) => notes(&db).unwrap_or_else(tell),
            (_, Some(note)) => add(&db, note).unwrap_or_else(tell),
            _ => script(&db, &body(request)),
        };
        http_p2::answer(out, 200, &text);
    }
}

/// Adds a note; the table is made with the first one.
fn add(db: &str, note: String) -> Result<String, Error> {
    let db = Connection::open(db)?;
    db.execute("CREATE TABLE IF NOT EXISTS notes (note TEXT NOT NULL)", &[])?;
    db.execute("INSERT INTO notes VALUES ($1)", &[Value::Text(note)])?;
    Ok("added\n".to_string())
}

fn notes(db: &str) -> Result<String, Error> {
    let db = Connection::open(db)?;
    let rows = db.query("SELECT note FROM notes ORDER BY note", &[])?;
    let mut text = String::new();
    loop {
        let batch = rows.next(100)?;
        if batch.is_empty() {
            return Ok(text);
        }
        for row in batch {
            text += &format!("{}\n", shown(&row[0]));
        }
    }
}

fn tell(error: Error) -> String {
    let (kind, text) = match error {
        Error::NoSuchStore => ("no-such-store", String::new()),
        Error::AccessDenied => ("access-denied", String::new()),
        Error::BadStatement(text) => ("bad-statement", text),
        Error::Constraint(text) => ("constraint", text),
        Error::Conflict(text) => ("conflict", text),
        Error::TooSlow(text) => ("too-slow", text),
        Error::NoTransaction(text) => ("no-transaction", text),
        Error::TooLarge(text) => ("too-large", text),
        Error::LimitReached(text) => ("limit-reached", text),
        Error::Unavailable(text) => ("unavailable", text),
        Error::Failed(text) => ("failed", text),
    };
    format!("error {kind}: {text}\n")
}

fn body(request: IncomingRequest) -> String {
    let incoming = request.consume().expect("the first call for the body");
    let stream = incoming.stream().expect("the first call for the stream");
    let mut bytes = Vec::new();
    while let Ok(piece) = stream.blocking_read(64 << 10) {
        bytes.extend(piece);
    }
    String::from_utf8(bytes).expect("a script is text")
}

fn script(db: &str, script: &str) -> String {
    let db = match Connection::open(db) {
        Ok(db) => db,
        Err(error) => return tell(error),
    };
    let mut open = None;
    let mut text = String::new();
    for line in script.lines() {
        text += &match step(&db, &mut open, line) {
            Ok(answer) => format!("{answer}\n"),
            Err(error) => tell(error),
        };
    }
    text
}

fn step(db: &Connection, open: &mut Option<Transaction>, line: &str) -> Result<String, Error> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut parts = rest.split('\t');
    let statement = parts.next().unwrap_or_default();
    let parameters: Vec<Value> = parts.map(value).collect();
    let query = |open: &Option<Transaction>, statement: &str| match open {
        Some(open) => open.query(statement, &parameters),
        None => db.query(statement, &parameters),
    };
    let execute = |open: &Option<Transaction>| match open {
        Some(open) => open.execute(statement, &parameters),
        None => db.execute(statement, &parameters),
    };
    match command {
        "execute" => Ok(execute(open)?.to_string()),
        "query" => all(&query(open, statement)?),
        "begin" => {
            *open = Some(db.begin()?);
            Ok("begun".to_string())
        }
        "commit" | "rollback" => {
            let open = open.as_ref().expect("a transaction");
            match command {
                "commit" => open.commit()?,
                _ => open.rollback()?,
            }
            Ok(command.to_string())
        }
        "batches" | "first" => {
            let (limit, statement) = statement.split_once(' ').expect("a number and a statement");
            let rows = query(open, statement)?;
            batches(&rows, limit.parse().expect("a number"), command == "first")
        }
        "columns" => {
            let columns = query(open, statement)?.columns();
            let shown = columns
                .iter()
                .map(|column| format!("{} {}", column.name, column.kind));
            Ok(shown.collect::<Vec<_>>().join("|"))
        }
        "many" => {
            let mut done = 0;
            loop {
                match execute(open) {
                    Ok(_) => done += 1,
                    Err(error) => return Ok(format!("{done} {}", tell(error).trim_end())),
                }
            }
        }
        "hold" => loop {
            std::thread::sleep(std::time::Duration::from_millis(5));
        },
        "leave" => {
            std::mem::forget(open.take());
            Ok("left".to_string())
        }
        _ => Ok(format!("unknown command {command}")),
    }
}

/// How many rows came each time.
fn batches(rows: &Rows, limit: u32, once: bool) -> Result<String, Error> {
    let mut counts = Vec::new();
    loop {
        let batch = rows.next(limit)?;
        counts.push(batch.len().to_string());
        if batch.is_empty() || once {
            return Ok(counts.join(" "));
        }
    }
}

fn all(rows: &Rows) -> Result<String, Error> {
    let mut lines = Vec::new();
    loop {
        let batch = rows.next(100)?;
        if batch.is_empty() {
            return Ok(lines.join(";"));
        }
        for row in batch {
            lines.push(row.iter().map(shown).collect::<Vec<_>>().join("|"));
        }
    }
}

fn value(text: &str) -> Value {
    let (kind, text) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "i" => Value::Integer(text.parse().expect("a number")),
        "f" => Value::Float(text.parse().expect("a number")),
        "b" => Value::Boolean(text == "true"),
        "t" => Value::Text(text.to_string()),
        "x" => Value::Bytes(
            (0..text.len() / 2)
                .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("digits"))
                .collect(),
        ),
        _ => Value::Null,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Text(value) if value.len() > 200 => format!("{} characters", value.len()),
        Value::Text(value) => value.clone(),
        Value::Bytes(value) => value.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
