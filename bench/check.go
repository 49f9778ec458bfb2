package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/sluice-mcp/sluice/bench/internal/client"
)

// check makes sure that a server does the work before it is timed: right sums, and no sum of what is no number.
func check(p *process, era client.Era) error {
	if p.server.constant {
		return nil
	}
	c, err := client.Dial(p.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := client.Open(c, era, p.addr, client.Plain)
	if err != nil {
		return err
	}
	for range 20 {
		a, b := rand.IntN(1_000_000)-500_000, rand.IntN(1_000_000) //nolint:gosec // any numbers will do
		res, err := c.Do(s.Call("add", fmt.Sprintf(`{"a":%d,"b":%d}`, a, b), false).Next())
		if err != nil {
			return err
		}
		result, err := res.Result()
		if err != nil {
			return err
		}
		if sum := result.Structured.Sum; sum == nil || *sum != a+b || result.IsError || res.Status != 200 {
			return fmt.Errorf("%d + %d: %s", a, b, res.Body)
		}
	}
	wrong := []string{`{"a":"x","b":5}`}
	if !p.server.lenient && p.server.program != "floor" {
		wrong = append(wrong, `{"a":10}`, `{"a":10,"b":1.5}`)
	}
	for _, arguments := range wrong {
		res, err := c.Do(s.Call("add", arguments, false).Next())
		if err != nil {
			return err
		}
		if result, err := res.Result(); err == nil && !result.IsError {
			return fmt.Errorf("add took %s: %s", arguments, res.Body)
		}
	}
	return nil
}
