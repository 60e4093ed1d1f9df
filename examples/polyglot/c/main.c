/* A CGI program in plain C: getenv, fread, printf. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A variable, or "" where there is none. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

/* Everything on standard input; its length goes to *length. */
static char *read_body(size_t *length)
{
    size_t room = 0;
    char *body = NULL;
    *length = 0;
    for (;;) {
        if (*length == room) {
            room = room ? 2 * room : 4096;
            char *larger = realloc(body, room);
            if (!larger) {
                fprintf(stderr, "a body of more than %zu bytes does not fit\n", *length);
                exit(1);
            }
            body = larger;
        }
        size_t read = fread(body + *length, 1, room - *length, stdin);
        if (read == 0)
            return body;
        *length += read;
    }
}

int main(void)
{
    size_t length;
    char *body = read_body(&length);
    const char *method = variable("REQUEST_METHOD");

    printf("Content-Type: text/plain; charset=utf-8\n");
    printf("X-Language: c\n");
    if (strcmp(method, "PUT") == 0)
        printf("Status: 201 Created\n");
    printf("\n");
    printf("language: c\nmethod: %s\npath: %s\nquery: %s\ngreeting: %s\nbytes: %zu\n\n", method,
           variable("PATH_INFO"), variable("QUERY_STRING"), variable("HTTP_X_GREETING"), length);
    fwrite(body, 1, length, stdout);
    free(body);
    return 0;
}
