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
		return nothing(), nil
	}
	if !isNotFound(err) {
		return res, err
	}
	spelled := spelling(uri, lists(ctx, next, r.Session, r.Params.Meta, r.Extra))
	if spelled == uri {
		return res, err
	}
	again, params := *r, *r.Params
	params.URI, again.Params = spelled, &params
	res, second := next(ctx, method, &again)
	switch {
	case isNothing(second, spelled):
		return nothing(), nil
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

// nothing is the result of reading nothing. Whom the handler's own would have been for, if it said so, is lost: nobody else.
func nothing() *mcp.ReadResourceResult {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{}, Cacheable: mcp.Cacheable{CacheScope: "private"}}
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

// A lister returns one page of a list of the server's, or nil.
type lister func(method, cursor string) mcp.Result

// lists returns the lister for a request with this session, metadata and extra, which next handles.
func lists(ctx context.Context, next mcp.MethodHandler, ss *mcp.ServerSession, meta mcp.Meta, extra *mcp.RequestExtra) lister {
	return func(method, cursor string) mcp.Result {
		var req mcp.Request
		if method == "resources/list" {
			req = &mcp.ListResourcesRequest{Session: ss, Params: &mcp.ListResourcesParams{Meta: meta, Cursor: cursor}, Extra: extra}
		} else {
			req = &mcp.ListResourceTemplatesRequest{Session: ss, Params: &mcp.ListResourceTemplatesParams{Meta: meta, Cursor: cursor}, Extra: extra}
		}
		res, err := next(ctx, method, req)
		if err != nil || isNil(res) {
			return nil
		}
		return res
	}
}

// spelling returns the URI as the server with these lists would write it; if it has none like that, uri itself.
func spelling(uri string, list lister) string {
	normal := wire.NormalURI(uri)
	if normal == uri && !strings.Contains(uri, "%") {
		return uri // it has one spelling only
	}
	found := ""
	eachPage(func(cursor string) (string, bool) {
		page, ok := list("resources/list", cursor).(*mcp.ListResourcesResult)
		if !ok {
			return "", false
		}
		for _, r := range present(page.Resources) {
			if r.URI == uri || found == "" && wire.NormalURI(r.URI) == normal {
				found = r.URI
			}
		}
		return page.NextCursor, found != uri
	})
	if found != "" {
		return found
	}
	eachPage(func(cursor string) (string, bool) {
		page, ok := list("resources/templates/list", cursor).(*mcp.ListResourceTemplatesResult)
		if !ok {
			return "", false
		}
		for _, t := range present(page.ResourceTemplates) {
			if spelled, ok := spelledBy(t.URITemplate, normal); ok {
				found = spelled
				return "", false
			}
		}
		return page.NextCursor, true
	})
	if found == "" {
		return uri
	}
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
