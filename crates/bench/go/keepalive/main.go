// Keeps many leases of one Go client alive for a while, and prints how many were
// lost and what that took of the processors.
//
// Standard output has a line for each measure, such as `cpu 1234567` with
// nanoseconds; a failure ends it with `error` and the reason. It ends early when
// its standard input does, so that it never outlives whoever started it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	dialTimeout  = 5 * time.Second
	grantsAtOnce = 64
)

var (
	endpoint = flag.String("endpoint", "", "where the server is")
	leases   = flag.Int("leases", 1000, "how many leases")
	ttl      = flag.Duration("ttl", 30*time.Second, "their time to live, in whole seconds")
	keep     = flag.Duration("keep", time.Minute, "how long they are measured, a TTL after the last was granted")
)

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
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{*endpoint},
		DialTimeout: dialTimeout,
	})
	if err != nil {
		return err
	}
	defer client.Close()

	begun := time.Now()
	var lost atomic.Int64
	if err := grant(ctx, client, &lost); err != nil {
		return err
	}
	granted := time.Since(begun)
	rest(ctx, *ttl)
	begun, cpu := time.Now(), cpuTime()
	rest(ctx, *keep)
	elapsed, cpu := time.Since(begun), cpuTime()-cpu
	fmt.Println("lost", lost.Load())
	fmt.Println("granted", granted.Nanoseconds())
	fmt.Println("elapsed", elapsed.Nanoseconds())
	fmt.Println("cpu", cpu.Nanoseconds())
	return nil
}

// Each lease is renewed from its grant on. One whose channel closes before the end
// of the measurement is lost.
func grant(ctx context.Context, client *clientv3.Client, lost *atomic.Int64) error {
	var (
		granting sync.WaitGroup
		places   = make(chan struct{}, grantsAtOnce)
		failures = make(chan error, *leases)
	)
	for range *leases {
		places <- struct{}{}
		granting.Add(1)
		go func() {
			defer func() { <-places; granting.Done() }()
			lease, err := client.Grant(ctx, int64(*ttl/time.Second))
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
				}
				if ctx.Err() == nil {
					lost.Add(1)
				}
			}()
		}()
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

// What this process has used of the processors, user and system.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
