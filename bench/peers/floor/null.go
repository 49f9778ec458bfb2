package main

import (
	"io"
	"net/http"
)

// constant is the right answer to 10 + 5, and taken for one to initialize.
const constant = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"{\"sum\":15}"}],"structuredContent":{"sum":15}}}`

// null reads the body and writes a constant: what net/http and the kernel take, whatever a server does.
func null(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if len(body) < 60 { // notifications/initialized, before anything is measured
		w.WriteHeader(http.StatusAccepted)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, constant)
}
