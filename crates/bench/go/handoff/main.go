// Hands one lock round among contenders of the Go client, each with a connection
// and a session of its own, and prints how long each hand-off took.
//
// Standard output has a line for each measure, such as `latency 1234567` with
// nanoseconds; a failure ends it with `error` and the reason. It ends early when
// its standard input does, so that it never outlives whoever started it.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	dialTimeout = 5 * time.Second
	ttlSeconds  = 10
)

var (
	endpoint   = flag.String("endpoint", "", "where etcd is")
	name       = flag.String("name", "", "the lock's name")
	contenders = flag.Int("contenders", 2, "how many want it")
	handoffs   = flag.Int("handoffs", 1000, "hand-offs to measure")
	hold       = flag.Duration("hold", 0, "how long a holder keeps it")
	patience   = flag.Duration("patience", time.Minute, "when it is a failure that nobody gets the lock")
)

// A baton knows who let go last, and collects what the hand-offs took.
type baton struct {
	mu       sync.Mutex
	held     bool
	holder   int
	released time.Time
	begun    time.Time     // the first grant
	elapsed  time.Duration // from then to the last hand-off
	timed    int           // the grants in that time
	grants   int           // all
	took     []time.Duration
	watchdog *time.Timer
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sessions := make([]*concurrency.Session, *contenders)
	for i := range sessions {
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{*endpoint},
			DialTimeout: dialTimeout,
		})
		if err != nil {
			return err
		}
		defer client.Close()
		session, err := concurrency.NewSession(client, concurrency.WithTTL(ttlSeconds))
		if err != nil {
			return err
		}
		defer session.Close()
		sessions[i] = session
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()

	var stalled atomic.Bool
	b := &baton{holder: -1, took: make([]time.Duration, 0, *handoffs)}
	b.watchdog = time.AfterFunc(*patience, func() {
		stalled.Store(true)
		cancel()
	})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu := used()
	err := contend(ctx, sessions, b)
	cpu = used().since(cpu)
	runtime.ReadMemStats(&after)
	if stalled.Load() {
		return fmt.Errorf("nobody got the lock for %v", *patience)
	}
	if err != nil && ctx.Err() == nil {
		return err
	}

	// What everything costs from beginning to end is shared among all grants.
	share := float64(b.timed) / float64(max(b.grants, 1))
	part := func(whole float64) int64 { return int64(math.Round(whole * share)) }
	out := bufio.NewWriter(os.Stdout)
	for _, took := range b.took {
		fmt.Fprintln(out, "latency", took.Nanoseconds())
	}
	fmt.Fprintln(out, "operations", b.timed)
	fmt.Fprintln(out, "elapsed", b.elapsed.Nanoseconds())
	fmt.Fprintln(out, "user", part(float64(cpu.user)))
	fmt.Fprintln(out, "system", part(float64(cpu.system)))
	fmt.Fprintln(out, "allocations", part(float64(after.Mallocs-before.Mallocs)))
	fmt.Fprintln(out, "bytes", part(float64(after.TotalAlloc-before.TotalAlloc)))
	return out.Flush()
}

// Returns the first failure of a contender, once all are done.
func contend(ctx context.Context, sessions []*concurrency.Session, b *baton) error {
	failures := make(chan error, len(sessions))
	for i, session := range sessions {
		go func() { failures <- work(ctx, i, session, b) }()
	}
	var first error
	for range sessions {
		if err := <-failures; first == nil {
			first = err
		}
	}
	return first
}

func work(ctx context.Context, worker int, session *concurrency.Session, b *baton) error {
	mutex := concurrency.NewMutex(session, *name)
	for {
		if err := mutex.Lock(ctx); err != nil {
			return err
		}
		enough, err := b.take(worker)
		if err != nil {
			return err
		}
		if *hold > 0 {
			time.Sleep(*hold)
		}
		b.release(worker)
		if err := mutex.Unlock(ctx); err != nil {
			return err
		}
		if enough {
			return nil
		}
	}
}

// Says whether there have been hand-offs enough.
func (b *baton) take(worker int) (bool, error) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held {
		return true, fmt.Errorf("%d got the lock while %d held it", worker, b.holder)
	}
	b.held = true
	b.watchdog.Reset(*patience)
	b.grants++
	if len(b.took) == *handoffs {
		return true, nil
	}
	if b.grants == 1 {
		b.begun = now
	} else {
		b.timed++
		b.elapsed = now.Sub(b.begun)
	}
	if b.holder >= 0 && b.holder != worker {
		b.took = append(b.took, now.Sub(b.released))
	}
	return len(b.took) == *handoffs, nil
}

func (b *baton) release(worker int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held, b.holder, b.released = false, worker, time.Now()
}

// What this process has used of the processors.
type processor struct{ user, system time.Duration }

func used() processor {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return processor{}
	}
	return processor{time.Duration(usage.Utime.Nano()), time.Duration(usage.Stime.Nano())}
}

func (p processor) since(before processor) processor {
	return processor{p.user - before.user, p.system - before.system}
}
