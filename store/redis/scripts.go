package redis

import (
	"context"
	_ "embed"

	"github.com/redis/rueidis"
)

var (
	//go:embed append.lua
	appendLua string
	//go:embed read.lua
	readLua string
	//go:embed swap.lua
	swapLua string
	//go:embed persist.lua
	persistLua string
	//go:embed probe.lua
	probeLua string
)

// scripts run by their hash; a server that does not know one, because it is new, is sent its text.
type scripts struct{ append, read, swap, persist, probe *rueidis.Lua }

func newScripts() scripts {
	return scripts{
		append:  rueidis.NewLuaScript(appendLua),
		read:    rueidis.NewLuaScript(readLua),
		swap:    rueidis.NewLuaScript(swapLua),
		persist: rueidis.NewLuaScript(persistLua),
		probe:   rueidis.NewLuaScript(probeLua),
	}
}

func (r *Redis) run(ctx context.Context, script *rueidis.Lua, key string, args ...string) rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	return script.Exec(ctx, r.client, []string{key}, args)
}
