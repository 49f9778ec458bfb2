package engine

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/yosida95/uritemplate/v3"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// This file finds resources whose URIs a client writes differently. The SDK compares them letter by letter. But a resource may be
// registered as "items://café/1", and what clients make of that, who know URIs only, is "items://caf%C3%A9/1".

// read reads a resource.
func read(ctx context.Context, next mcp.MethodHandler, r *mcp.ReadResourceRequest) (mcp.Result, error) {
	const method = "resources/read"
	uri := r.Params.URI
	res, err := next(ctx, method, r)
	if err == nil {
		return res, nil
	}
	if isNothing(err, uri) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{}, Cacheable: mcp.Cacheable{CacheScope: "private"}}, nil
	}
	if !isNotFound(err) {
		return res, err
	}
	spelled := spelling(ctx, next, r, uri)
	if spelled == uri {
		return res, err
	}
	again, params := *r, *r.Params
	params.URI, again.Params = spelled, &params
	res, second := next(ctx, method, &again)
	switch {
	case isNothing(second, spelled):
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{}, Cacheable: mcp.Cacheable{CacheScope: "private"}}, nil
	case isNotFound(second):
		return res, err // in the client's own words
	case second != nil:
		return res, second
	}
	return restored(res, spelled, uri), nil
}

// isNothing reports whether the SDK has refused a result whose contents are nil. A handler may well find nothing; the SDK has no
// other mark for it than its words.
func isNothing(err error, uri string) bool {
	return err != nil && err.Error() == "reading resource "+uri+": read handler returned nil information"
}

// isNotFound reports whether the error says that there is no such resource.
func isNotFound(err error) bool {
	e, ok := errors.AsType[*jsonrpc.Error](err)
	return ok && (e.Code == wire.CodeInvalidParams || e.Code == wire.CodeResourceNotFound) &&
		json.Valid(e.Data) && wire.Member(e.Data, "uri") != nil
}

// restored returns the result with the URI that the client has asked for, where it names the one that was read.
func restored(res mcp.Result, spelled, uri string) mcp.Result {
	list, ok := res.(*mcp.ReadResourceResult)
	if !ok || list == nil {
		return res
	}
	c := *list
	c.Contents = nil
	for _, part := range present(list.Contents) {
		if part.URI == spelled {
			own := *part
			own.URI, part = uri, &own
		}
		c.Contents = append(c.Contents, part)
	}
	if list.Contents != nil && c.Contents == nil {
		c.Contents = []*mcp.ResourceContents{}
	}
	return &c
}

// spelling returns the URI as the server that lists its resources by next would write it; if it has none like that, uri itself.
func spelling[P mcp.Params](ctx context.Context, next mcp.MethodHandler, r *mcp.ServerRequest[P], uri string) string {
	normal := wire.NormalURI(uri)
	if normal == uri && !strings.Contains(uri, "%") {
		return uri // it has one spelling only
	}
	found := uri
	eachPage(func(cursor string) (string, bool) {
		req := &mcp.ListResourcesRequest{Session: r.Session, Params: &mcp.ListResourcesParams{Meta: r.Params.GetMeta(), Cursor: cursor}, Extra: r.Extra}
		res, err := next(ctx, "resources/list", req)
		list, ok := res.(*mcp.ListResourcesResult)
		if err != nil || !ok || list == nil {
			return "", false
		}
		for _, resource := range present(list.Resources) {
			if resource.URI != uri && wire.NormalURI(resource.URI) == normal {
				found = resource.URI
				return "", true
			}
		}
		return list.NextCursor, true
	})
	if found != uri {
		return found
	}
	eachPage(func(cursor string) (string, bool) {
		params := &mcp.ListResourceTemplatesParams{Meta: r.Params.GetMeta(), Cursor: cursor}
		res, err := next(ctx, "resources/templates/list", &mcp.ListResourceTemplatesRequest{Session: r.Session, Params: params, Extra: r.Extra})
		list, ok := res.(*mcp.ListResourceTemplatesResult)
		if err != nil || !ok || list == nil {
			return "", false
		}
		for _, t := range present(list.ResourceTemplates) {
			if spelled, ok := spelledBy(t.URITemplate, normal); ok {
				found = spelled
				return "", true
			}
		}
		return list.NextCursor, true
	})
	return found
}

// expression matches an expression of a URI template (RFC 6570, section 2.2).
var expression = regexp.MustCompile(`\{[^{}]*\}`)

// spelledBy returns a URI, which is in normal form, with what stands between the expressions of the template as it stands there. It
// reports false if they do not match.
func spelledBy(template, normal string) (string, bool) {
	var pattern strings.Builder
	pattern.WriteByte('^')
	var literals []string
	at := 0
	for _, place := range expression.FindAllStringIndex(template, -1) {
		t, err := uritemplate.New(template[place[0]:place[1]])
		if err != nil {
			return "", false
		}
		literals = append(literals, template[at:place[0]])
		at = place[1]
		pattern.WriteString(regexp.QuoteMeta(wire.NormalURI(literals[len(literals)-1])))
		value := strings.TrimSuffix(strings.TrimPrefix(t.Regexp().String(), "^"), "$")
		pattern.WriteString("(?P<" + groupOf(len(literals)-1) + ">" + value + ")")
	}
	last := template[at:]
	pattern.WriteString(regexp.QuoteMeta(wire.NormalURI(last)) + "$")
	re, err := regexp.Compile(pattern.String())
	if err != nil {
		return "", false
	}
	match := re.FindStringSubmatch(normal)
	if match == nil {
		return "", false
	}
	var out strings.Builder
	for i, literal := range literals {
		out.WriteString(literal + match[re.SubexpIndex(groupOf(i))])
	}
	return out.String() + last, true
}

func groupOf(i int) string { return "e" + strconv.Itoa(i) }
