// The Go client under measurement: it takes the same orders as the Rust ones and
// prints the same lines, see crates/bench/worker. Set up as its documentation
// advises where connections may go dead: all endpoints, HTTP/2 pings after 10
// seconds with 3 for the answer, a deadline for each call.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	dialTimeout  = 5 * time.Second
	pingInterval = 10 * time.Second
	pingTimeout  = 3 * time.Second
	startMax     = 20 * time.Second
	overrunMax   = 10 * time.Second
	grantsAtOnce = 64
	readKeys     = 100
	warmUpCalls  = 1000
	warmUpLocks  = 200
	warmUpEvents = 200
	patience     = 30 * time.Second
	unaryKey     = "bench/unary/key-of-24-by"
	smallKey     = "bench/tail/small"
	largeKey     = "bench/tail/large"
	tailTTL      = 9
	largePause   = 50 * time.Millisecond
	tailWarmUp   = time.Second
)

var (
	flags     = flag.NewFlagSet("worker", flag.ExitOnError)
	endpoints = flags.String("endpoints", "", "where the servers are")
	prefix    = flags.String("prefix", "", "what the keys begin with")
	deadline  = flags.Int("deadline", 5000, "steady: of each call, in milliseconds")
	every     = flags.Int("every", 20, "steady: between the beginnings of two calls of a kind, in milliseconds; tail: of two reads, in microseconds")
	from      = flags.Int64("from", 0, "watch: the revision to begin with")
	events    = flags.Int("events", 0, "watch: how many there will be")
	method    = flags.String("method", "put", "unary: put, get or txn")
	watches   = flags.Int("watches", 1, "latency: how many, each of a key of its own")
	calls     = flags.Int64("calls", 0, "unary, lock, tail, latency: how many in all")
	inFlight  = flags.Int("in-flight", 1, "unary: how many at a time")
	valueSize = flags.Int("value-bytes", 16, "unary: the size of the value")
	name      = flags.String("name", "", "lock: what it is called")
	leases    = flags.Int("leases", 0, "keepalive, tail: how many leases")
	watched   = flags.String("watch", "", "tail: what the keys begin with that are watched meanwhile")
	largeSize = flags.Int("large-bytes", 0, "tail: the size of a value that is read meanwhile")
	ttl       = flags.Int64("ttl", 30, "keepalive: their time to live, in seconds")
	keep      = flags.Int("seconds", 60, "keepalive: how long they are measured, a TTL after the last was granted")
	value     = strings.Repeat("x", 40)
)

func main() {
	if err := run(); err != nil {
		fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New("no order")
	}
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            strings.Split(*endpoints, ","),
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    pingInterval,
		DialKeepAliveTimeout: pingTimeout,
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	switch os.Args[1] {
	case "steady":
		return steady(client)
	case "watch":
		return watch(client)
	case "latency":
		return latency(client)
	case "unary":
		return unary(client)
	case "tail":
		return tail(client)
	case "lock":
		return lock(client)
	case "keepalive":
		return keepalive(client)
	}
	return fmt.Errorf("no such order: %s", os.Args[1])
}

// Resolves when standard input ends.
func inputEnded() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	return ended
}

type call struct {
	kind    string
	begun   time.Time
	took    time.Duration
	outcome string // empty while it is open
}

// All calls.
type ledger struct {
	mu    sync.Mutex
	calls []*call
}

// A put and a get begin every so often, whether those before are answered or not.
func steady(client *clientv3.Client) error {
	ended := inputEnded()
	if err := start(client); err != nil {
		return err
	}
	var all sync.WaitGroup
	var l ledger
	pace := time.NewTimer(pause())
	due, late := time.Now().Add(pause()), time.Duration(0)
	fmt.Println("ready")
	for number := 0; ; number++ {
		select {
		case <-ended:
			done := make(chan struct{})
			go func() { all.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(callDeadline() + overrunMax): // whoever is still there is open
			}
			fmt.Println("late", late.Nanoseconds())
			return l.print()
		case <-pace.C:
		}
		late = max(late, time.Since(due))
		due = time.Now().Add(pause())
		pace.Reset(pause())
		all.Go(func() {
			l.do("put", func() error { return put(client, fmt.Sprintf("%s/put/%d", *prefix, number)) })
		})
		all.Go(func() { l.do("get", func() error { return get(client, readKey(number)) }) })
	}
}

// Waits for an answer of each kind, and for the connections that come with them.
func start(client *clientv3.Client) error {
	begun := time.Now()
	for number := range readKeys {
		for put(client, readKey(number)) != nil || get(client, readKey(number)) != nil {
			if time.Since(begun) > startMax {
				return fmt.Errorf("no answer within %v", startMax)
			}
			time.Sleep(pause())
		}
	}
	return nil
}

func (l *ledger) do(kind string, ask func() error) {
	c := &call{kind: kind, begun: time.Now()}
	l.mu.Lock()
	l.calls = append(l.calls, c)
	l.mu.Unlock()
	outcome := outcome(ask())
	took := time.Since(c.begun)
	l.mu.Lock()
	c.took, c.outcome = took, outcome
	l.mu.Unlock()
}

func (l *ledger) print() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := bufio.NewWriter(os.Stdout)
	for _, c := range l.calls {
		if c.outcome == "" {
			c.took, c.outcome = time.Since(c.begun), "open"
		}
		fmt.Fprintln(out, c.kind, c.begun.UnixNano(), c.took.Nanoseconds(), c.outcome)
	}
	return out.Flush()
}

func put(client *clientv3.Client, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callDeadline())
	defer cancel()
	_, err := client.Put(ctx, key, value)
	return err
}

func get(client *clientv3.Client, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callDeadline())
	defer cancel()
	_, err := client.Get(ctx, key)
	return err
}

// By gRPC's code, which is all that its errors tell.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	var coded interface{ Code() codes.Code } // etcd's own errors
	code := status.Code(err)
	if errors.As(err, &coded) {
		code = coded.Code()
	}
	switch code {
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable, codes.DataLoss:
		return "unknown"
	}
	return "refused"
}

func readKey(number int) string {
	return fmt.Sprintf("%s/get/%d", *prefix, number%readKeys)
}

func pause() time.Duration {
	return time.Duration(*every) * time.Millisecond
}

func callDeadline() time.Duration {
	return time.Duration(*deadline) * time.Millisecond
}

// The time runs from the wish to watch for a replay, and from the first message
// for a watch from now on.
func watch(client *clientv3.Client) error {
	if _, err := client.Get(context.Background(), *prefix+"none"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := inputEnded()
	go func() { <-ended; cancel() }()
	measure := begin()
	options := []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithRev(*from), clientv3.WithCreatedNotify()}
	messages := client.Watch(ctx, *prefix, options...)
	seen, first := 0, 0
	for seen < *events {
		message, ok := <-messages
		if !ok {
			return errors.New("stopped")
		}
		if err := message.Err(); err != nil {
			return err
		}
		if message.Created {
			fmt.Println("ready")
		}
		if *from == 0 && seen == 0 && len(message.Events) > 0 {
			measure.begun = time.Now()
			first = len(message.Events)
		}
		seen += len(message.Events)
	}
	measure.end(int64(seen - first))
	return nil
}

// The events of one turn, and what each took.
type sightings struct {
	mu    sync.Mutex
	seen  []time.Duration // as many as there is room for
	whole chan struct{}
}

func (s *sightings) begin(room []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.whole = room[:0], make(chan struct{})
}

func (s *sightings) add(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == cap(s.seen) {
		return
	}
	s.seen = append(s.seen, took)
	if len(s.seen) == cap(s.seen) {
		close(s.whole)
	}
}

// How many there are, and what is closed when there is room for no more.
func (s *sightings) state() (int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen), s.whole
}

// From a put of somebody else to its event here: the value of each put is when it began.
func latency(client *clientv3.Client) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended, failures := inputEnded(), make(chan error, *watches)
	var s sightings
	s.begin(make([]time.Duration, 0, min(warmUpEvents, *calls)))
	for number := range *watches {
		messages := client.Watch(ctx, fmt.Sprintf("%s%04d", *prefix, number), clientv3.WithCreatedNotify())
		if created := <-messages; !created.Created {
			return fmt.Errorf("no watch: %v", created.Err())
		}
		go func() {
			for message := range messages {
				for _, event := range message.Events {
					begun := int64(binary.BigEndian.Uint64(event.Kv.Value))
					s.add(time.Duration(max(0, time.Now().UnixNano()-begun)))
				}
			}
			failures <- errors.New("a watch has ended")
		}()
	}
	fmt.Println("ready")
	if err := s.wait(ended, failures); err != nil {
		return err
	}
	room := make([]time.Duration, 0, *calls)
	measure := begin()
	s.begin(room)
	if err := s.wait(ended, failures); err != nil {
		return err
	}
	count, _ := s.state()
	measure.end(int64(count))
	cancel()
	return print(room[:count])
}

// Until they are all there, or it is enough.
func (s *sightings) wait(ended <-chan struct{}, failures <-chan error) error {
	ticker := time.NewTicker(patience)
	defer ticker.Stop()
	_, whole := s.state()
	for last := 0; ; {
		select {
		case <-whole:
			return nil
		case <-ended:
			return nil
		case err := <-failures:
			return err
		case <-ticker.C:
			count, _ := s.state()
			if count == last {
				return fmt.Errorf("no event within %v", patience)
			}
			last = count
		}
	}
}

func unary(client *clientv3.Client) error {
	payload := strings.Repeat("x", *valueSize)
	// What is read and compared is there.
	if err := ask(client, unaryKey, "put", payload); err != nil {
		return err
	}
	call := func() error { return ask(client, unaryKey, *method, payload) }
	return sampled(warmUpCalls, *inFlight, call)
}

func ask(client *clientv3.Client, key, method, payload string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	switch method {
	case "put":
		_, err = client.Put(ctx, key, payload)
	case "get":
		_, err = client.Get(ctx, key)
	default:
		isThere := clientv3.Compare(clientv3.ModRevision(key), ">", 0)
		put, get := clientv3.OpPut(key, payload), clientv3.OpGet(key)
		_, err = client.Txn(ctx).If(isThere).Then(put).Else(get).Commit()
	}
	return err
}

// Small reads at a pace, beside whatever else the same client does meanwhile.
func tail(client *clientv3.Client) error {
	if _, err := client.Put(context.Background(), smallKey, "x"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := inputEnded()
	go func() { <-ended; cancel() }()
	beside := make(chan error, *leases+2)
	if err := beginBeside(ctx, client, beside); err != nil {
		return err
	}
	latencies := make([]time.Duration, *calls)
	failures := make(chan error, *calls)
	measure := begin()
	begun := 0
	for due := range pace(ctx) {
		go func(number int, due time.Time) {
			err := ask(client, smallKey, "get", "")
			latencies[number] = time.Since(due)
			failures <- err
		}(begun, due)
		begun++
	}
	for range begun {
		if err := <-failures; err != nil {
			return err
		}
	}
	measure.end(int64(begun))
	select {
	case err := <-beside:
		return err
	default:
	}
	return print(latencies[:begun])
}

// When each call is due, told then. By a thread, since Go's own sleep is as coarse as a millisecond.
func pace(ctx context.Context) <-chan time.Time {
	told := make(chan time.Time, *calls)
	go func() {
		defer close(told)
		runtime.LockOSThread()
		due := time.Now()
		for range *calls {
			due = due.Add(time.Duration(*every) * time.Microsecond)
			left := syscall.NsecToTimespec(max(0, int64(time.Until(due))))
			for syscall.Nanosleep(&left, &left) == syscall.EINTR {
			}
			if ctx.Err() != nil {
				return
			}
			told <- due
		}
	}()
	return told
}

// What goes on until the process ends; why it has ended before is told.
func beginBeside(ctx context.Context, client *clientv3.Client, ended chan<- error) error {
	for range *leases {
		lease, err := client.Grant(ctx, tailTTL)
		if err != nil {
			return err
		}
		renewals, err := client.KeepAlive(ctx, lease.ID)
		if err != nil {
			return err
		}
		go func() {
			for range renewals {
			}
			ended <- errors.New("a lease is not kept alive any more")
		}()
	}
	if *watched != "" {
		messages := client.Watch(ctx, *watched, clientv3.WithPrefix())
		go func() {
			for range messages {
			}
			ended <- errors.New("the watch has ended")
		}()
	}
	if *largeSize > 0 {
		if _, err := client.Put(ctx, largeKey, strings.Repeat("x", *largeSize)); err != nil {
			return err
		}
		go func() {
			for {
				if err := ask(client, largeKey, "get", ""); err != nil {
					ended <- err
					return
				}
				time.Sleep(largePause)
			}
		}()
	}
	rest(ctx, tailWarmUp)
	return nil
}

// A lock that nobody else wants: locked and unlocked, one after the other.
func lock(client *clientv3.Client) error {
	session, err := concurrency.NewSession(client)
	if err != nil {
		return err
	}
	defer session.Close()
	mutex := concurrency.NewMutex(session, *name)
	return sampled(warmUpLocks, 1, func() error {
		if err := mutex.Lock(context.Background()); err != nil {
			return err
		}
		return mutex.Unlock(context.Background())
	})
}

// Warms up, and measures what all operations cost and each took.
func sampled(warmUp int64, callers int, operation func() error) error {
	var enough atomic.Bool
	ended := inputEnded()
	go func() { <-ended; enough.Store(true) }()
	if _, err := many(min(warmUp, *calls), callers, &enough, operation); err != nil {
		return err
	}
	measure := begin()
	latencies, err := many(*calls, callers, &enough, operation)
	if err != nil {
		return err
	}
	measure.end(int64(len(latencies)))
	return print(latencies)
}

func print(latencies []time.Duration) error {
	out := bufio.NewWriter(os.Stdout)
	for _, latency := range latencies {
		fmt.Fprintln(out, "latency", latency.Nanoseconds())
	}
	return out.Flush()
}

// So many operations, some at a time, each next one as soon as one has ended.
func many(count int64, callers int, enough *atomic.Bool, operation func() error) ([]time.Duration, error) {
	var taken, done atomic.Int64
	latencies := make([]time.Duration, count)
	failures := make(chan error, callers)
	for range callers {
		go func() {
			var err error
			for err == nil && !enough.Load() && taken.Add(1) <= count {
				begun := time.Now()
				if err = operation(); err == nil {
					latencies[done.Add(1)-1] = time.Since(begun)
				}
			}
			failures <- err
		}()
	}
	var first error
	for range callers {
		if err := <-failures; first == nil {
			first = err
		}
	}
	return latencies[:done.Load()], first
}

// Leases that are kept alive, and nothing else: how often they are renewed, and how many are lost.
func keepalive(client *clientv3.Client) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := inputEnded()
	enough, tell := context.WithCancel(ctx)
	defer tell()
	go func() { <-ended; tell() }()
	var renewed, lost atomic.Int64
	if err := grant(ctx, enough, client, &renewed, &lost); err != nil {
		return err
	}
	rest(enough, time.Duration(*ttl)*time.Second)
	before, measure := renewed.Load(), begin()
	rest(enough, time.Duration(*keep)*time.Second)
	measure.end(renewed.Load() - before)
	fmt.Println("lost", lost.Load())
	return nil
}

// Each lease is renewed from its grant on. One whose channel closes before the end
// of the measurement is lost.
func grant(ctx, enough context.Context, client *clientv3.Client, renewed, lost *atomic.Int64) error {
	var (
		granting sync.WaitGroup
		places   = make(chan struct{}, grantsAtOnce)
		failures = make(chan error, *leases)
	)
	for range *leases {
		if enough.Err() != nil {
			break
		}
		places <- struct{}{}
		granting.Go(func() {
			defer func() { <-places }()
			lease, err := client.Grant(ctx, *ttl)
			if err != nil {
				failures <- err
				return
			}
			renewals, err := client.KeepAlive(ctx, lease.ID)
			if err != nil {
				failures <- err
				return
			}
			go func() {
				for range renewals {
					renewed.Add(1)
				}
				if ctx.Err() == nil {
					lost.Add(1)
				}
			}()
		})
	}
	granting.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}

func rest(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// What is measured from a moment on.
type measure struct {
	begun  time.Time
	cpu    processor
	before runtime.MemStats
}

func begin() *measure {
	m := &measure{}
	runtime.GC()
	runtime.ReadMemStats(&m.before)
	m.cpu = used()
	m.begun = time.Now()
	return m
}

func (m *measure) end(operations int64) {
	elapsed, cpu := time.Since(m.begun), used().since(m.cpu)
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	fmt.Println("operations", operations)
	fmt.Println("elapsed", elapsed.Nanoseconds())
	fmt.Println("user", cpu.user.Nanoseconds())
	fmt.Println("system", cpu.system.Nanoseconds())
	fmt.Println("allocations", after.Mallocs-m.before.Mallocs)
	fmt.Println("bytes", after.TotalAlloc-m.before.TotalAlloc)
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
