//! A CGI program of Zig's standard library: the environment, standard input, standard output.

const std = @import("std");

pub fn main(init: std.process.Init) !void {
    const environment = init.environ_map;
    const method = environment.get("REQUEST_METHOD") orelse "";

    var in_buffer: [4096]u8 = undefined;
    var in = std.Io.File.stdin().readerStreaming(init.io, &in_buffer);
    const body = try in.interface.allocRemaining(init.arena.allocator(), .unlimited);

    var out_buffer: [4096]u8 = undefined;
    var file = std.Io.File.stdout().writerStreaming(init.io, &out_buffer);
    const out = &file.interface;
    try out.writeAll("Content-Type: text/plain; charset=utf-8\nX-Language: zig\n");
    if (std.mem.eql(u8, method, "PUT")) try out.writeAll("Status: 201 Created\n");
    try out.print("\nlanguage: zig\nmethod: {s}\npath: {s}\nquery: {s}\ngreeting: {s}\nbytes: {d}\n\n", .{
        method,
        environment.get("PATH_INFO") orelse "",
        environment.get("QUERY_STRING") orelse "",
        environment.get("HTTP_X_GREETING") orelse "",
        body.len,
    });
    try out.writeAll(body);
    try out.flush();
}
