package engine

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sluice-mcp/sluice/internal/wire"
)

// spellings are the resources that are subscribed to through one connection: the SDK tells of a change under the URI that the server
// has said, and only who has subscribed under that. The client hears of it under the one that it has subscribed to.
type spellings struct {
	mu    sync.Mutex
	asked map[string][]string // the clients' URIs, by the server's
}

// add reports whether the client's URI is new.
func (s *spellings) add(server, client string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = make(map[string][]string)
	}
	if slices.Contains(s.asked[server], client) {
		return false
	}
	s.asked[server] = append(slices.Clone(s.asked[server]), client)
	return true
}

// drop forgets a client's URI, and returns the server's, unless others still stand for that.
func (s *spellings) drop(client string) (server string, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for server, clients := range s.asked {
		if i := slices.Index(clients, client); i >= 0 {
			if clients = slices.Delete(slices.Clone(clients), i, i+1); len(clients) > 0 {
				s.asked[server] = clients
				return server, false
			}
			delete(s.asked, server)
			return server, true
		}
	}
	return client, true
}

// others returns the clients' URIs but these.
func (s *spellings) others(uris []string) (others []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, clients := range s.asked {
		for _, uri := range clients {
			if !slices.Contains(uris, uri) {
				others = append(others, uri)
			}
		}
	}
	return others
}

// of returns what the clients call the server's URI.
func (s *spellings) of(server string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if clients := s.asked[server]; clients != nil {
		return clients
	}
	return []string{server}
}

// subscribe relays a resources/subscribe under the URI as the server writes it.
func (s *Session) subscribe(ctx context.Context, c *Call) (json.RawMessage, error) {
	uri := wire.Unquote(wire.Member(c.Params, "uri"))
	spelled := s.spelling(ctx, c, uri)
	fresh := s.conn.spellings.add(spelled, uri)
	result, err := s.relay(ctx, c, respell(c.Params, "uri", uri, spelled))
	if err != nil && fresh {
		s.conn.spellings.drop(uri)
	}
	return result, err
}

// unsubscribe relays a resources/unsubscribe, once nothing else that the client calls the resource is subscribed to.
func (s *Session) unsubscribe(ctx context.Context, c *Call) (json.RawMessage, error) {
	uri := wire.Unquote(wire.Member(c.Params, "uri"))
	spelled, last := s.conn.spellings.drop(uri)
	if !last {
		return json.RawMessage(`{}`), nil
	}
	result, err := s.relay(ctx, c, respell(c.Params, "uri", uri, spelled))
	if err != nil {
		s.conn.spellings.add(spelled, uri)
	}
	return result, err
}

// KeepSubscriptions unsubscribes from all resources but those that the client calls by one of uris, so that a program which keeps books of
// who is subscribed hears that a client is no longer. The SDK forgets them in silence when it closes a session. It waits for the
// server's handlers, up to ten seconds for those that heed their context.
func (s *Session) KeepSubscriptions(uris []string) {
	for _, uri := range s.conn.spellings.others(uris) {
		spelled, last := s.conn.spellings.drop(uri)
		if !last {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		// Directly: the server may have closed the session's connection.
		req := &mcp.UnsubscribeRequest{Session: s.ss, Params: &mcp.UnsubscribeParams{URI: spelled}, Extra: &mcp.RequestExtra{}}
		if _, err := s.call(ctx, "resources/unsubscribe", req); err != nil {
			s.engine.log.Info("unsubscribing a session that is over", "error", err)
		}
		cancel()
	}
}

func respell(params json.RawMessage, key, old, spelled string) json.RawMessage {
	if spelled == old {
		return params
	}
	return wire.ReplaceMember(params, key, wire.AppendString(nil, spelled))
}

// listen relays a subscriptions/listen.
func (s *Session) listen(ctx context.Context, c *Call) (json.RawMessage, error) {
	uris := subscriptions(c.Params)
	if uris == nil {
		return s.relay(ctx, c, c.Params) // none, or for the SDK to refuse
	}
	var spelled []string
	for _, uri := range uris {
		own := s.spelling(ctx, c, uri)
		s.conn.spellings.add(own, uri)
		if !slices.Contains(spelled, own) {
			spelled = append(spelled, own)
		}
	}
	params, err := relist(c.Params, spelled)
	if err != nil {
		return nil, err
	}
	return s.relay(ctx, c, params)
}

// relist returns params with other resources in their subscriptions.
func relist(params json.RawMessage, uris []string) (json.RawMessage, error) {
	list, err := json.Marshal(uris)
	if err != nil {
		return nil, err
	}
	wanted := wire.ReplaceMember(wire.Member(params, "notifications"), "resourceSubscriptions", list)
	return wire.ReplaceMember(params, "notifications", wanted), nil
}

// subscriptions returns the resources in params of a subscription, if they name some.
func subscriptions(params json.RawMessage) (uris []string) {
	wanted := wire.Member(params, "notifications")
	if len(wanted) == 0 || wanted[0] != '{' || json.Unmarshal(wire.Member(wanted, "resourceSubscriptions"), &uris) != nil {
		return nil
	}
	return uris
}

func (s *Session) spelling(ctx context.Context, c *Call, uri string) string {
	return spelling(uri, lists(Detached(ctx, c), s.safely, s.ss, nil, c.Extra))
}

// say hands on what the server says; of a resource, under the URIs that the client has subscribed to.
func (c *conn) say(ctx context.Context, m Outgoing) error {
	switch m.Method {
	case wire.ResourceUpdated:
		uri, params := wire.Unquote(wire.Member(m.Params, "uri")), m.Params
		for _, client := range c.spellings.of(uri) {
			m.Params = respell(params, "uri", uri, client)
			if err := c.out.Say(ctx, m); err != nil {
				return err
			}
		}
		return nil
	case "notifications/subscriptions/acknowledged":
		var clients []string
		for _, uri := range subscriptions(m.Params) {
			clients = append(clients, c.spellings.of(uri)...)
		}
		if clients == nil {
			break
		}
		var err error
		if m.Params, err = relist(m.Params, clients); err != nil {
			return err
		}
	}
	return c.out.Say(ctx, m)
}
