package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// lean decodes a call once, straight into the struct that its only tool works with, and encodes the answer once. Nobody writes servers like
// this, for it cannot have a second tool; it is what is left of the floor when nothing is done twice.
func lean(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req leanRequest
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	if err != nil {
		leanAnswer(w, http.StatusBadRequest, &leanResponse{ID: req.ID, Error: &rpcError{Code: -32700, Message: err.Error()}})
		return
	}
	meta := &req.Params.Meta
	version := r.Header.Get("Mcp-Protocol-Version")
	if version == modern && (meta.Version != version || r.Header.Get("Mcp-Method") != req.Method || r.Header.Get("Mcp-Name") != req.Params.Name) {
		leanAnswer(w, http.StatusBadRequest, &leanResponse{ID: req.ID, Error: &rpcError{Code: -32020, Message: "Header mismatch"}})
		return
	}
	switch {
	case req.Method == "initialize", req.Method == "notifications/initialized":
		serveBody(w, r, body)
		return
	case req.Method != "tools/call" || req.Params.Name != "add":
		leanAnswer(w, http.StatusOK, &leanResponse{ID: req.ID, Error: &rpcError{Code: -32601, Message: "Method not found"}})
		return
	}
	sum := req.Params.Arguments.A + req.Params.Arguments.B
	res := &leanResult{Content: [1]text{{Type: "text", Text: `{"sum":` + strconv.Itoa(sum) + `}`}}}
	res.Structured.Sum = sum
	if version == modern {
		res.ResultType = "complete"
		res.Meta = &leanInfo
	}
	leanAnswer(w, http.StatusOK, &leanResponse{ID: req.ID, Result: res})
}

type leanRequest struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string `json:"name"`
		Arguments struct {
			A int `json:"a"`
			B int `json:"b"`
		} `json:"arguments"`
		Meta struct {
			Version string `json:"io.modelcontextprotocol/protocolVersion"`
		} `json:"_meta"`
	} `json:"params"`
}

type leanResponse struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  *leanResult     `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type leanResult struct {
	Meta       *serverInfo `json:"_meta,omitempty"`
	ResultType string      `json:"resultType,omitempty"`
	Content    [1]text     `json:"content"`
	Structured struct {
		Sum int `json:"sum"`
	} `json:"structuredContent"`
}

var leanInfo = func() (i serverInfo) {
	i.Server.Name, i.Server.Version = "bench", "1"
	return i
}()

func leanAnswer(w http.ResponseWriter, status int, res *leanResponse) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	res.JSONRPC = "2.0"
	data, _ := json.Marshal(res) // strings and numbers
	_, _ = w.Write(data)
}
