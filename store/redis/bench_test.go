//go:build unix

package redis_test

import (
	"bytes"
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-mcp/sluice/internal/redistest"
	"github.com/sluice-mcp/sluice/store"
	"github.com/sluice-mcp/sluice/store/redis"
)

var (
	ctx   = context.Background()
	event = bytes.Repeat([]byte("e"), 256)
)

// each runs f in one goroutine and in 64; who numbers the goroutines from 0.
func each(b *testing.B, f func(r *redis.Redis, who string, i int64) error) {
	redistest.Need(b, realURL)
	b.Run("1", func(b *testing.B) {
		r := open(b, realURL)
		b.ReportAllocs()
		var i int64
		for b.Loop() {
			if err := f(r, "0", i); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
	b.Run("64", func(b *testing.B) {
		r := open(b, realURL)
		b.ReportAllocs()
		b.SetParallelism(32) // times GOMAXPROCS
		var goroutines atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			who := strconv.FormatInt(goroutines.Add(1), 10)
			for i := int64(0); pb.Next(); i++ {
				if err := f(r, who, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkPut(b *testing.B) {
	each(b, func(r *redis.Redis, who string, _ int64) error {
		return r.Put(ctx, who, event, time.Minute)
	})
}

func BenchmarkGet(b *testing.B) {
	each(b, func(r *redis.Redis, who string, i int64) error {
		if i == 0 {
			if err := r.Put(ctx, who, event, time.Minute); err != nil {
				return err
			}
		}
		_, err := r.Get(ctx, who)
		return err
	})
}

func BenchmarkSwap(b *testing.B) {
	each(b, func(r *redis.Redis, who string, i int64) error {
		if i == 0 {
			if err := r.Put(ctx, who, event, time.Minute); err != nil {
				return err
			}
		}
		return r.Swap(ctx, who, event, event, time.Minute)
	})
}

// BenchmarkAppend keeps logs short, so that each append trims too.
func BenchmarkAppend(b *testing.B) {
	entries, bounds := [][]byte{event}, store.Bounds{Entries: 100, TTL: time.Minute}
	each(b, func(r *redis.Redis, who string, i int64) error {
		return r.Append(ctx, who, i, entries, bounds)
	})
}

func BenchmarkRead(b *testing.B) {
	entries := make([][]byte, 100)
	for i := range entries {
		entries[i] = event
	}
	each(b, func(r *redis.Redis, who string, i int64) error {
		if i == 0 {
			if err := r.Append(ctx, who, 0, entries, store.Bounds{TTL: time.Minute}); err != nil {
				return err
			}
		}
		_, _, err := r.Read(ctx, who, 90, 10)
		return err
	})
}

func BenchmarkPublish(b *testing.B) {
	each(b, func(r *redis.Redis, who string, _ int64) error {
		_, err := r.Publish(ctx, who, event)
		return err
	})
}

// BenchmarkWakeUp is an append by one replica until another has received its announcement.
func BenchmarkWakeUp(b *testing.B) {
	redistest.Need(b, realURL)
	r := open(b, realURL)
	sub, err := r.Subscribe(ctx, "l")
	if err != nil {
		b.Fatal(err)
	}
	entries, bounds := [][]byte{event}, store.Bounds{Entries: 100, TTL: time.Minute}
	b.ReportAllocs()
	var i int64
	for b.Loop() {
		if err := r.Append(ctx, "l", i, entries, bounds); err != nil {
			b.Fatal(err)
		}
		<-sub.C()
		i++
	}
}

func BenchmarkSubscribe(b *testing.B) {
	each(b, func(r *redis.Redis, who string, i int64) error {
		sub, err := r.Subscribe(ctx, who+" "+strconv.FormatInt(i, 10))
		if err != nil {
			return err
		}
		return sub.Close()
	})
}
