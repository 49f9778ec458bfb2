// Package spec holds the proof that the endpoint keeps the MCP specification:
// one test per testable statement, over real HTTP, named by the statement's ID.
//
//	go test ./spec -run 'Spec/TL-18'         # one statement
//	go test ./spec -run TestDocs -update     # write docs/spec.md anew
//
// The package has tests only. It owns the table of statements and the small
// HTTP client that they are written with; it does not know how the endpoint is
// built, and reaches it through its public face alone. What the Tasks extension
// says of clients is tried on this project's own: package tasks, the command
// and its proxy.
package spec
