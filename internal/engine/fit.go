package engine

import (
	"context"
	"fmt"
	"iter"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/result"
)

// Conform has a server that is not served through an engine say what clients of each revision can read.
func Conform(server *mcp.Server) {
	e := New(server, nil)
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			return e.fitted(ctx, next, method, req)
		}
	})
	server.AddSendingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			return next(ctx, method, fittedRequest(req))
		}
	})
}

// fitted calls next, the server's handler, and returns its result as clients of the request's revision can read it. Of a request
// it mends what the SDK does not: the spelling of a URI, and a prompt that is called without what it needs.
func (e *Engine) fitted(ctx context.Context, next mcp.MethodHandler, method string, req mcp.Request) (res mcp.Result, err error) {
	switch r := req.(type) {
	case *mcp.ReadResourceRequest:
		res, err = read(ctx, next, r)
	case *mcp.GetPromptRequest:
		if err = e.checkPrompt(ctx, next, r); err == nil {
			res, err = next(ctx, method, req)
		}
	default:
		res, err = next(ctx, method, req)
	}
	if err != nil || isNil(res) {
		return res, err
	}
	return result.Fit(res, revisionOf(req)), nil
}

// revisionOf returns the revision of a request from a client, or that of the session for one to a client.
func revisionOf(req mcp.Request) string {
	r, ok := req.(interface{ ProtocolVersion() string })
	if !ok {
		return ""
	}
	return r.ProtocolVersion()
}

// fittedRequest returns a request to a client as clients of its session's revision can read it.
func fittedRequest(req mcp.Request) mcp.Request {
	r, ok := req.(*mcp.ServerRequest[mcp.Params])
	if !ok {
		return req
	}
	fitted := result.FitRequest(r.Params, revisionOf(r))
	if fitted == r.Params {
		return req
	}
	c := *r
	c.Params = fitted
	return &c
}

// checkPrompt refuses a call without an argument that the prompt requires (Prompts, "Error Handling").
func (e *Engine) checkPrompt(ctx context.Context, next mcp.MethodHandler, r *mcp.GetPromptRequest) error {
	// A prompt that is not there, or not listed, requires nothing here: the call itself will say so.
	required, _ := e.prompts.find(r.Params.Name,
		func() map[string][]string { return requiredArguments(ctx, next, r) },
		func() bool { return e.Watched() && e.Describe(ctx, r.Extra).TellsPrompts })
	for _, name := range required {
		if _, given := r.Params.Arguments[name]; !given {
			return &jsonrpc.Error{
				Code:    jsonrpc.CodeInvalidParams,
				Message: fmt.Sprintf("Invalid params: prompt %q needs the argument %q", r.Params.Name, name),
			}
		}
	}
	return nil
}

// requiredArguments returns the names of the arguments that each prompt requires.
func requiredArguments(ctx context.Context, next mcp.MethodHandler, r *mcp.GetPromptRequest) map[string][]string {
	all := make(map[string][]string)
	ok := eachPage(func(cursor string) (string, bool) {
		req := &mcp.ListPromptsRequest{Session: r.Session, Params: &mcp.ListPromptsParams{Meta: r.Params.Meta, Cursor: cursor}, Extra: r.Extra}
		res, err := next(ctx, "prompts/list", req)
		list, ok := res.(*mcp.ListPromptsResult)
		if err != nil || !ok || list == nil {
			return "", false
		}
		for _, p := range present(list.Prompts) {
			var required []string
			for _, a := range present(p.Arguments) {
				if a.Required {
					required = append(required, a.Name)
				}
			}
			all[p.Name] = required
		}
		return list.NextCursor, true
	})
	if !ok {
		return nil
	}
	return all
}

// eachPage reads a list page by page. It reports false if one could not be had.
func eachPage(read func(cursor string) (next string, ok bool)) bool {
	for cursor := ""; ; {
		next, ok := read(cursor)
		if !ok {
			return false
		}
		if next == "" || next == cursor {
			return true
		}
		cursor = next
	}
}

// present yields what is not nil in a list that a middleware may have made.
func present[T any](list []*T) iter.Seq2[int, *T] {
	return func(yield func(int, *T) bool) {
		for i, v := range list {
			if v != nil && !yield(i, v) {
				return
			}
		}
	}
}
