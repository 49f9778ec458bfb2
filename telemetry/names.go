package telemetry

import (
	"strconv"

	"go.opentelemetry.io/otel/attribute"

	"github.com/sluice-mcp/sluice/observe"
)

// The attributes of the semantic conventions for MCP, which are in development. They stand here, since the packages of
// constants that OpenTelemetry publishes have dropped them again.
//
// https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/mcp.md
const (
	methodKey    = attribute.Key("mcp.method.name")
	revisionKey  = attribute.Key("mcp.protocol.version")
	sessionKey   = attribute.Key("mcp.session.id") // not the ID itself, with which one could take part in it: a name for it
	requestKey   = attribute.Key("jsonrpc.request.id")
	operationKey = attribute.Key("gen_ai.operation.name")
	toolKey      = attribute.Key("gen_ai.tool.name")
	promptKey    = attribute.Key("gen_ai.prompt.name")
	errorKey     = attribute.Key("error.type")
	statusKey    = attribute.Key("rpc.response.status_code")
)

// Both transports are served over HTTP; the revision tells which one it is.
var network = []attribute.KeyValue{
	attribute.String("network.transport", "tcp"),
	attribute.String("network.protocol.name", "http"),
}

// Attributes of our own.
const (
	takeoverKey = attribute.Key("sluice.takeover") // the call has come from a replica that was lost
	claimKey    = attribute.Key("sluice.claim")    // how often it has
	taskKey     = attribute.Key("sluice.task")
	roundKey    = attribute.Key("sluice.task.round")

	eraKey     = attribute.Key("era")
	kindKey    = attribute.Key("kind")
	opKey      = attribute.Key("operation")
	outcomeKey = attribute.Key("outcome")
	reasonKey  = attribute.Key("reason")
	resultKey  = attribute.Key("result")
	stateKey   = attribute.Key("status")
	viaKey     = attribute.Key("via")
)

// otherError stands for an error that a handler has made up. The conventions name it so.
const otherError = "_OTHER"

// errorType is what the conventions call the type of an error: the code of the response, else a word. It is empty for none.
func errorType(e observe.End) string {
	switch {
	case e.Code != 0:
		return strconv.FormatInt(e.Code, 10)
	case e.Outcome == observe.OK, e.Outcome == observe.InputRequired:
		return ""
	case e.Outcome == observe.Failed:
		return otherError
	}
	return string(e.Outcome)
}

// message is the status of a failed span in words. They are ours: what a handler says may repeat what it was given.
func message(e observe.End) string {
	switch e.Outcome {
	case observe.ToolError:
		return "the tool has failed"
	case observe.Cancelled:
		return "the client wanted no response any more"
	case observe.TakenOver:
		return "another replica has taken the call over"
	case observe.Lost:
		return "its replica was lost, and it must not run twice"
	case observe.Unfinished:
		return "it ran when its process ended"
	}
	return meanings[e.Code]
}

// meanings are those of the codes that metrics tell apart: JSON-RPC's, the specification's of all revisions, and ours. A handler can return
// any number.
var meanings = map[int64]string{
	-32700: "parse error",
	-32600: "invalid request",
	-32601: "method not found",
	-32602: "invalid params",
	-32603: "internal error",
	-32002: "resource not found",
	-32020: "header mismatch",
	-32021: "missing capability",
	-32022: "unsupported protocol version",
	-32042: "URL elicitation required",
	-31010: "busy",
	-31011: "replica lost",
	-31012: "session not found",
	-31013: "not allowed",
}

// measured is an error type as metrics have it.
func measured(e observe.End) string {
	if _, known := meanings[e.Code]; e.Code != 0 && !known {
		return otherError
	}
	return errorType(e)
}
