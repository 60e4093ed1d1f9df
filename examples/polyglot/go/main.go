// A CGI program of Go's standard library alone: any http.Handler can be served like this.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
)

func main() {
	if err := cgi.Serve(http.HandlerFunc(answer)); err != nil {
		log.Fatal(err)
	}
}

func answer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Language", "go")
	if r.Method == http.MethodPut {
		w.WriteHeader(http.StatusCreated)
	}
	// The URL is the whole path, as in a server; what follows the route is in the environment.
	fmt.Fprintf(w, "language: go\nmethod: %s\npath: %s\nquery: %s\ngreeting: %s\nbytes: %d\n\n",
		r.Method, os.Getenv("PATH_INFO"), r.URL.RawQuery, r.Header.Get("X-Greeting"), len(body))
	w.Write(body)
}
