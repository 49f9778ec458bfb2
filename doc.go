// Package sluice serves Model Context Protocol servers, written with the
// official Go SDK, over HTTP.
//
// [NewHandler] takes what the SDK's own handler takes, and returns an endpoint
// that speaks to clients of every revision at one URL: sessions of 2024-11-05
// to 2025-11-25 and the stateless 2026-07-28. [AddTool] is the SDK's, compiled once
// for each tool. The package serve puts a process around the endpoint.
//
// # What a handler can rely on
//
// Every accepted request ends in exactly one response. A session's call goes on when
// its connection is cut, and its client finds the rest with Last-Event-ID; with a shared
// store in [Options.Store], at any replica. When a replica dies, another one
// runs a call again if its tool is annotated read-only or idempotent, and
// otherwise ends it with an error that says so: annotate your tools.
//
// What a tool says while it runs (progress, log messages, elicitation) reaches
// its client when it is said with the context that the tool was called with.
//
// # What to know before exposing it
//
// The endpoint refuses foreign origins, and foreign hosts on a loopback address, but
// it knows no users: put the package auth, or the SDK's bearer token middleware, in front of
// it. Sessions, streams, sealed state and limits are then bound to the
// principal of [Options.Principal].
package sluice
