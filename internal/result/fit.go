package result

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// rules are what clients of one revision can read, by its schema and by what the official clients check. One member that does not
// pass has them refuse all of an answer.
type rules struct{ revision string }

// stateless reports whether the revision is 2026-07-28 or later.
func (r rules) stateless() bool { return wire.Modern(r.revision) }

// Fit returns res as clients of the revision can read it: res itself if that can stay as it is, else a copy, since a handler may keep
// what it has returned. An unknown revision is taken for the last one of sessions.
func Fit(res mcp.Result, revision string) mcp.Result {
	r := rulesOf(revision)
	switch res := res.(type) {
	case *mcp.CallToolResult:
		return r.callTool(res)
	case *mcp.GetPromptResult:
		return r.getPrompt(res)
	case *mcp.ReadResourceResult:
		return r.readResource(res)
	case *mcp.CompleteResult:
		return r.complete(res)
	case *mcp.ListToolsResult:
		c := *res
		c.Tools = present(res.Tools)
		for i, t := range c.Tools {
			c.Tools[i] = r.tool(t)
		}
		return &c
	case *mcp.ListPromptsResult:
		c := *res
		c.Prompts = present(res.Prompts)
		for i, p := range c.Prompts {
			if slices.Contains(p.Arguments, nil) {
				p := *p
				p.Arguments = present(p.Arguments)
				c.Prompts[i] = &p
			}
		}
		return &c
	case *mcp.ListResourcesResult:
		c := *res
		c.Resources = present(res.Resources)
		return &c
	case *mcp.ListResourceTemplatesResult:
		c := *res
		c.ResourceTemplates = present(res.ResourceTemplates)
		return &c
	case *mcp.InitializeResult:
		c := *res
		c.Capabilities = capabilities(res.Capabilities)
		return &c
	case *mcp.DiscoverResult:
		c := *res
		c.Capabilities = capabilities(res.Capabilities)
		c.SupportedVersions = slices.Concat([]string{}, res.SupportedVersions)
		return &c
	}
	return res
}

func rulesOf(revision string) rules {
	if !wire.Served(revision) {
		revision = wire.Negotiate(revision)
	}
	return rules{revision}
}

// present returns a copy of list without what is nil. It is never nil itself.
func present[T any](list []*T) []*T {
	out := make([]*T, 0, len(list))
	for _, v := range list {
		if v != nil {
			out = append(out, v)
		}
	}
	return out
}

func (r rules) callTool(res *mcp.CallToolResult) *mcp.CallToolResult {
	if res.NeedsInput() {
		c := *res
		c.InputRequests = r.inputRequests(res.InputRequests)
		return &c
	}
	content, structured := r.output(res.Content, res.StructuredContent, res.IsError)
	if same(content, res.Content) && (structured == nil) == (res.StructuredContent == nil) {
		return res
	}
	c := *res
	c.Content, c.StructuredContent = content, structured
	return &c
}

// same reports whether a and b are the same part of the same array.
func same(a, b []mcp.Content) bool {
	return len(a) == len(b) && (len(a) == 0 && (a == nil) == (b == nil) || len(a) > 0 && &a[0] == &b[0])
}

// output returns the content and the structured content of a tool's result. Until 2026-07-28 the latter is an object. What is none
// is said as text, which the specification has tools do anyway (Tools, "Structured Content").
func (r rules) output(content []mcp.Content, structured any, isError bool) ([]mcp.Content, any) {
	content = r.contents(content)
	if structured == nil || r.stateless() {
		return content, structured
	}
	text, object := asObject(structured)
	if object {
		return content, structured
	}
	if len(content) == 0 || !isError && string(text) != "null" && !says(content, text) {
		content = append(slices.Clip(content), &mcp.TextContent{Text: string(text)})
	}
	return content, nil
}

// asObject reports whether v is a JSON object, or cannot be marshaled, which is for others to report. What is no object comes with
// its JSON.
func asObject(v any) (text []byte, object bool) {
	switch v := v.(type) {
	case map[string]any:
		if v != nil {
			return nil, true
		}
	case json.RawMessage:
		if text = bytes.TrimSpace(v); len(text) > 0 {
			return text, text[0] == '{' || !json.Valid(text)
		}
	}
	text, err := json.Marshal(v)
	return text, err != nil || text[0] == '{'
}

// says reports whether a block of content has the JSON text, perhaps with white space of its own.
func says(content []mcp.Content, text []byte) bool {
	for _, c := range content {
		t, ok := c.(*mcp.TextContent)
		if !ok || len(t.Text) < len(text) {
			continue
		}
		var compact bytes.Buffer
		if t.Text == string(text) || json.Compact(&compact, []byte(t.Text)) == nil && bytes.Equal(compact.Bytes(), text) {
			return true
		}
	}
	return false
}

func (r rules) getPrompt(res *mcp.GetPromptResult) *mcp.GetPromptResult {
	c := *res
	if res.NeedsInput() {
		c.InputRequests = r.inputRequests(res.InputRequests)
		return &c
	}
	c.Messages = present(res.Messages)
	for i, m := range c.Messages {
		c.Messages[i] = &mcp.PromptMessage{Role: role(m.Role), Content: r.block(m.Content)}
	}
	return &c
}

// role returns the role of a message, which is required: what a program does not say is the user's.
func role(r mcp.Role) mcp.Role {
	if r == "" {
		return "user"
	}
	return r
}

func (r rules) readResource(res *mcp.ReadResourceResult) mcp.Result {
	c := *res
	if res.NeedsInput() {
		c.InputRequests = r.inputRequests(res.InputRequests)
		return &c
	}
	c.Contents = present(res.Contents)
	if slices.ContainsFunc(c.Contents, isBare) {
		return contents{&c}
	}
	return &c
}

// contents is the result of reading a resource that is empty, or has parts that are.
type contents struct{ *mcp.ReadResourceResult }

func (c contents) MarshalJSON() ([]byte, error) {
	list := make([]any, len(c.Contents))
	for i, part := range c.Contents {
		if list[i] = part; isBare(part) {
			list[i] = bareText(part)
		}
	}
	written, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	rest := *c.ReadResourceResult
	rest.Contents = nil
	raw, err := rest.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return wire.ReplaceMember(raw, "contents", written), nil
}

// maxValues bounds the values of a completion (Completion, "Completion Results").
const maxValues = 100

func (r rules) complete(res *mcp.CompleteResult) *mcp.CompleteResult {
	c := *res
	d := &c.Completion
	switch n := len(d.Values); {
	case d.Values == nil:
		d.Values = []string{}
	case n > maxValues:
		d.Values, d.HasMore = d.Values[:maxValues], true
		d.Total = max(d.Total, n)
	}
	return &c
}

// capabilities returns what a server can do with objects where the schema has them.
func capabilities(c *mcp.ServerCapabilities) *mcp.ServerCapabilities {
	if c == nil {
		return &mcp.ServerCapabilities{}
	}
	out := *c
	out.Experimental, out.Extensions = settings(c.Experimental), settings(c.Extensions)
	return &out
}

func settings(m map[string]any) map[string]any {
	m = maps.Clone(m)
	for name, v := range m {
		if v == nil {
			m[name] = struct{}{}
		}
	}
	return m
}

func (r rules) inputRequests(in mcp.InputRequestMap) mcp.InputRequestMap {
	if in == nil {
		return nil
	}
	out := make(mcp.InputRequestMap, len(in))
	for key, request := range in {
		out[key] = request
		if params, ok := request.(mcp.Params); ok {
			if fitted, ok := r.request(params).(mcp.InputRequest); ok {
				out[key] = fitted
			}
		}
	}
	return out
}

// FitRequest returns the params of a request to a client as clients of the revision can read them.
func FitRequest(params mcp.Params, revision string) mcp.Params {
	return rulesOf(revision).request(params)
}

func (r rules) request(params mcp.Params) mcp.Params {
	switch p := params.(type) {
	case *mcp.ElicitParams:
		if p != nil {
			return r.elicit(p)
		}
	case *mcp.CreateMessageParams:
		if p != nil {
			c := *p
			c.Messages = present(p.Messages)
			for i, m := range c.Messages {
				c.Messages[i] = &mcp.SamplingMessage{Role: role(m.Role), Content: r.block(m.Content)}
			}
			return &c
		}
	case *mcp.CreateMessageWithToolsParams:
		if p != nil {
			return r.createMessage(p)
		}
	}
	return params
}

func (r rules) elicit(p *mcp.ElicitParams) *mcp.ElicitParams {
	c := *p
	if p.Mode == "url" || p.Mode == "" && (p.URL != "" || p.ElicitationID != "") {
		if p.ElicitationID == "" && !r.stateless() { // required, and to be unique
			c.ElicitationID = rand.Text()
		}
		return &c
	}
	c.RequestedSchema = formSchema(p.RequestedSchema)
	return &c
}

func (r rules) createMessage(p *mcp.CreateMessageWithToolsParams) *mcp.CreateMessageWithToolsParams {
	c := *p
	c.Messages = present(p.Messages)
	for i, m := range c.Messages {
		content := r.contents(m.Content)
		if len(content) == 0 { // which the older revisions cannot say with a list
			content = []mcp.Content{&mcp.TextContent{}}
		}
		c.Messages[i] = &mcp.SamplingMessageV2{Role: role(m.Role), Content: content}
	}
	if c.Tools != nil {
		c.Tools = present(p.Tools)
		for i, t := range c.Tools {
			c.Tools[i] = r.tool(t)
		}
	}
	return &c
}
