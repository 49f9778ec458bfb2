// Command floor is the bench's measures. In its ordinary mode it is what the same exchange costs with net/http and encoding/json alone. It decodes
// the request and the arguments, checks the headers that revision 2026-07-28 asks for, and encodes the result. It has no
// sessions, no schemas, no limits, no tools but its own. The mode "lean" does the same and nothing twice; "null" does nothing at all.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sluice-mcp/sluice/bench/internal/peer"
)

func main() {
	peer.Serve(func(mode string, _ time.Duration) http.Handler {
		switch mode {
		case "null":
			return http.HandlerFunc(null)
		case "lean":
			return http.HandlerFunc(lean)
		}
		return http.HandlerFunc(serve)
	})
}

const modern = "2026-07-28"

type request struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
		Meta      struct {
			Token        json.RawMessage `json:"progressToken"`
			Version      string          `json:"io.modelcontextprotocol/protocolVersion"`
			Capabilities struct{}        `json:"io.modelcontextprotocol/clientCapabilities"`
			Client       struct {
				Name    string `json:"name"`
				Version string `json:"version"`
			} `json:"io.modelcontextprotocol/clientInfo"`
		} `json:"_meta"`
	} `json:"params"`
}

type response struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type text struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type result struct {
	Meta       any    `json:"_meta,omitempty"`
	ResultType string `json:"resultType,omitempty"`
	Content    []text `json:"content"`
	Structured any    `json:"structuredContent"`
}

type serverInfo struct {
	Server struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"io.modelcontextprotocol/serverInfo"`
}

func serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		idle(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, new(request), http.StatusBadRequest, -32700, err.Error())
		return
	}
	serveBody(w, r, body)
}

func serveBody(w http.ResponseWriter, r *http.Request, body []byte) {
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		fail(w, &req, http.StatusBadRequest, -32700, err.Error())
		return
	}
	if version := r.Header.Get("Mcp-Protocol-Version"); version == modern {
		meta := &req.Params.Meta
		if meta.Version != version || r.Header.Get("Mcp-Method") != req.Method || r.Header.Get("Mcp-Name") != req.Params.Name {
			fail(w, &req, http.StatusBadRequest, -32020, "Header mismatch")
			return
		}
	}
	switch req.Method {
	case "initialize":
		w.Header().Set("Mcp-Session-Id", "floor")
		answer(w, http.StatusOK, &response{JSONRPC: "2.0", ID: req.ID, Result: map[string]any{
			"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "serverInfo": map[string]any{"name": "floor", "version": "1"},
		}})
	case "notifications/initialized":
		w.WriteHeader(http.StatusAccepted)
	case "tools/call":
		call(w, &req)
	default:
		fail(w, &req, http.StatusOK, -32601, "Method not found")
	}
}

func call(w http.ResponseWriter, req *request) {
	switch req.Params.Name {
	case "add":
		var in peer.AddIn
		if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
			fail(w, req, http.StatusOK, -32602, err.Error())
			return
		}
		give(w, req, peer.AddOut{Sum: in.A + in.B})
	case "count":
		var in peer.CountIn
		if err := json.Unmarshal(req.Params.Arguments, &in); err != nil {
			fail(w, req, http.StatusOK, -32602, err.Error())
			return
		}
		stream(w)
		for i := range in.N {
			event(w, notification(req, i+1, in.N, ""))
		}
		event(w, &response{JSONRPC: "2.0", ID: req.ID, Result: complete(req, peer.CountOut(in))})
	case "mark":
		stream(w)
		event(w, notification(req, 1, 0, peer.Now()))
		time.Sleep(peer.MarkPause)
		event(w, &response{JSONRPC: "2.0", ID: req.ID, Result: complete(req, peer.MarkOut{Done: true})})
	default:
		fail(w, req, http.StatusOK, -32602, "Unknown tool")
	}
}

func complete(req *request, out any) *result {
	data, err := json.Marshal(out)
	if err != nil {
		peer.Fatal(err)
	}
	res := &result{Content: []text{{Type: "text", Text: string(data)}}, Structured: json.RawMessage(data)}
	if req.Params.Meta.Version == modern {
		var info serverInfo
		info.Server.Name, info.Server.Version = "bench", "1"
		res.Meta, res.ResultType = &info, "complete"
	}
	return res
}

func give(w http.ResponseWriter, req *request, out any) {
	answer(w, http.StatusOK, &response{JSONRPC: "2.0", ID: req.ID, Result: complete(req, out)})
}

func fail(w http.ResponseWriter, req *request, status, code int, message string) {
	answer(w, status, &response{JSONRPC: "2.0", ID: req.ID, Error: &rpcError{Code: code, Message: message}})
}

func answer(w http.ResponseWriter, status int, res *response) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	data, err := json.Marshal(res)
	if err != nil {
		peer.Fatal(err)
	}
	w.Write(data)
}

type progress struct {
	JSONRPC string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  struct {
		Token    json.RawMessage `json:"progressToken"`
		Progress float64         `json:"progress"`
		Total    float64         `json:"total,omitempty"`
		Message  string          `json:"message,omitempty"`
	} `json:"params"`
}

func notification(req *request, i, n int, message string) *progress {
	p := &progress{JSONRPC: "2.0", Method: "notifications/progress"}
	p.Params.Token, p.Params.Progress, p.Params.Total, p.Params.Message = req.Params.Meta.Token, float64(i), float64(n), message
	return p
}

func stream(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
}

// event writes and flushes one event: a bare handler has nobody to gather them for it.
func event(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		peer.Fatal(err)
	}
	fmt.Fprintf(w, "event: message\ndata: %s\n\n", data)
	w.(http.Flusher).Flush()
}

// idle is a stream on which nothing happens.
func idle(w http.ResponseWriter, r *http.Request) {
	stream(w)
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}
