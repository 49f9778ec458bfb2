// Package e2e tests MCP servers end to end: real processes, real HTTP, every
// protocol revision, and the faults that networks have.
//
//	srv := e2e.Start(t, e2e.Command("./cmd/server"))
//	e2e.EachRevision(t, srv, func(t *testing.T, session *mcp.ClientSession) {
//		sum := e2e.Call[Sum](t, session, "add", map[string]int{"a": 10, "b": 5})
//		…
//	})
//
// It owns processes ([Start], [Replicas]), the network between client and server
// ([Proxy], [Fault]), client sessions ([Server.Connect], [RawConnect]), calls that become tasks ([StartTask]) and assertions
// about contracts ([Snapshot], [TokenBudget], [Conformance]). It knows nothing of how the server is
// written: any language will do.
package e2e
