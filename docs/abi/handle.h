/* The functions of the module `env` that Hostel gives to modules of the ABI `handle` (docs/abi/handle.md).
 *
 * Build: clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -Wl,--import-memory -Wl,--export=handle -o guest.wasm guest.c
 * (leave --import-memory out, and the module has a memory of its own, which the linker exports as `memory`)
 *
 * Places are 32-bit addresses, sizes have 64 bits. A place outside of the memory ends the request (500).
 */
#ifndef HOSTEL_HANDLE_H
#define HOSTEL_HANDLE_H

#include <stdint.h>

#define HOSTEL_ENV(name) __attribute__((import_module("env"), import_name(#name)))

/* Those of serverless-wasm. */

HOSTEL_ENV(log) void hostel_log(const char *text, uint64_t length);
HOSTEL_ENV(response_set_status_line) void response_set_status_line(uint32_t status, const char *reason, uint64_t length);
HOSTEL_ENV(response_set_header)
void response_set_header(const char *name, uint64_t name_length, const char *value, uint64_t value_length);
HOSTEL_ENV(response_set_body) void response_set_body(const void *body, uint64_t length);

/* Number of the connection; -1 not connected, -2 the table is full. */
HOSTEL_ENV(tcp_connect) int32_t tcp_connect(const char *address, uint64_t length);
/* Bytes read; 0 at the end, -1 error. */
HOSTEL_ENV(tcp_read) int64_t tcp_read(int32_t fd, void *to, uint64_t length);
/* `length`; -1 error. */
HOSTEL_ENV(tcp_write) int64_t tcp_write(int32_t fd, const void *from, uint64_t length);

/* Length of the value, of which as much is copied as there is room for; -1 there is none. */
HOSTEL_ENV(db_get) int64_t db_get(const char *key, uint64_t key_length, void *value, uint64_t value_length);

/* Those that Hostel adds. */

/* 0, or -1. */
HOSTEL_ENV(tcp_close) int32_t tcp_close(int32_t fd);
HOSTEL_ENV(db_set) int64_t db_set(const char *key, uint64_t key_length, const void *value, uint64_t value_length);
HOSTEL_ENV(db_delete) int64_t db_delete(const char *key, uint64_t key_length);

/* As db_get: the full length, or -1. */
HOSTEL_ENV(request_method) int64_t request_method(char *to, uint64_t length);
HOSTEL_ENV(request_uri) int64_t request_uri(char *to, uint64_t length);
HOSTEL_ENV(request_header) int64_t request_header(const char *name, uint64_t name_length, char *to, uint64_t length);
HOSTEL_ENV(request_headers) int64_t request_headers(char *to, uint64_t length);
HOSTEL_ENV(request_body) int64_t request_body(void *to, uint64_t length);

/* As tcp_read: the next bytes. */
HOSTEL_ENV(request_body_read) int64_t request_body_read(void *to, uint64_t length);

/* Number of the file; -1 not found, -2 the table is full, -3 not granted. */
HOSTEL_ENV(file_open) int32_t file_open(const char *name, uint64_t length);
/* Bytes read, as many as there was room for unless the file ends; 0 at the end, -1 error. */
HOSTEL_ENV(file_read) int64_t file_read(int32_t fd, void *to, uint64_t length);
/* Bytes that it had when it was opened, or -1. */
HOSTEL_ENV(file_size) int64_t file_size(int32_t fd);
/* 0, or -1. */
HOSTEL_ENV(file_close) int32_t file_close(int32_t fd);

#endif
