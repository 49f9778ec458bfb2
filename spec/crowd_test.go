package spec_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestCrowd lets many clients of every revision do everything at one endpoint at once, in an order that the seed decides:
// each request still gets its own answer, once, and nothing of another's.
func TestCrowd(t *testing.T) {
	e := serve(t)
	const clients, deeds = 16, 60
	t.Run("clients", func(t *testing.T) { // which end before the endpoint does
		for n := range clients {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				c := &client{session: e.open(t, legacy[n%len(legacy)]), rand: rand.New(rand.NewPCG(uint64(n), 1))}
				for range deeds {
					c.act(t)
				}
				c.delete(t).has(t, 204)
			})
		}
	})
}

type client struct {
	*session
	rand *rand.Rand
	gets []*stream
}

func (c *client) act(t *testing.T) {
	id := int(c.next())
	key := fmt.Sprint(c.id, "-", id)
	switch c.rand.IntN(10) {
	case 0:
		if got := c.run(t, "echo", obj{"text": key}); got != key {
			t.Errorf("echo of %s is %s", key, got)
		}
	case 1:
		c.steps(t, key, c.send(t, tokened(call(id, "steps", obj{"n": 3}), key)).messages(t), 6)
	case 2:
		c.steps(t, key, c.send26(t, tokened(call(id, "steps", obj{"n": 2}), key)).messages(t), 4)
	case 3:
		c.steps(t, key, c.listen(t, c.broken(t, id, key, 2)).rest(t), 2)
	case 4:
		x := c.start(t, call(id, "slow", obj{"key": key}))
		c.await(t, key, "running")
		c.send(t, cancelled(id)).accepted(t)
		if all := x.reply(t).messages(t); len(all) != 0 {
			t.Errorf("a cancelled call got %v", all)
		}
	case 5:
		x := c.begin(t, c.modern(t, call(1, "slow", obj{"key": key})))
		c.await(t, key, "running")
		x.cut()
		c.await(t, key, "cancelled")
	case 6:
		stream := c.send(t, call(id, "elicit", obj{"key": key})).events(t)
		ask, _ := stream.message(t)
		if c.rand.IntN(2) == 0 {
			stream.cut()
		}
		c.answer(t, ask, obj{"action": "accept", "content": obj{"name": key}}).accepted(t)
		c.await(t, key, "answered")
	case 7:
		if c.gets = append(c.gets, c.listen(t, "")); len(c.gets) > 3 {
			c.gets[0].cut()
			c.gets = c.gets[1:]
		}
	case 8:
		c.subscribe(t, id, obj{"toolsListChanged": true}).cut()
	case 9:
		c.touch(t, fmt.Sprint("tool-", c.rand.IntN(3)))
	}
}

// steps demands n notifications with the token, and one response.
func (c *client) steps(t *testing.T, token string, all []message, n int) {
	t.Helper()
	if got := methods(all); got["notifications/progress"] != n || got["response"] != 1 || len(all) != n+1 {
		t.Errorf("%s: got %v, want %d notifications and a response", token, all, n)
	}
	for _, m := range all {
		if m.Method != "" && m.params(t)["progressToken"] != token {
			t.Errorf("%s: got another's %v", token, m)
		}
	}
}
