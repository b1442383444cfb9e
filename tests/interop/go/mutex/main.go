// Locks and unlocks a name COUNT times with the Go client's concurrency.Mutex, or leads
// it as long with its concurrency.Election, and prints for each time a line:
//
//	KEY CREATED REVISION GRANTED RELEASED
//
// CREATED is the create_revision of the key, REVISION one at which the server
// showed the lock to be held. GRANTED is the time after Lock or Campaign has returned
// and RELEASED the one before Unlock or Resign is called, in nanoseconds of the boot clock.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: mutex ENDPOINTS NAME COUNT HOLD mutex|election")
	}
	endpoints, name := strings.Split(os.Args[1], ","), os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	hold, err := time.ParseDuration(os.Args[4])
	check(err)

	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second})
	check(err)
	session, err := concurrency.NewSession(client)
	check(err)
	out := bufio.NewWriter(os.Stdout)
	for range count {
		if os.Args[5] == "election" {
			lead(concurrency.NewElection(session, name), hold, out)
		} else {
			acquire(concurrency.NewMutex(session, name), hold, out)
		}
	}
	check(session.Close())
	check(out.Flush())
}

func acquire(mutex *concurrency.Mutex, hold time.Duration, out *bufio.Writer) {
	check(mutex.Lock(context.Background()))
	granted := bootNanos()
	owner := mutex.IsOwner()
	key, created, revision := mutex.Key(), owner.GetCompare().GetCreateRevision(), mutex.Header().Revision
	time.Sleep(hold)
	released := bootNanos()
	check(mutex.Unlock(context.Background()))
	fmt.Fprintln(out, key, created, revision, granted, released)
}

func lead(election *concurrency.Election, hold time.Duration, out *bufio.Writer) {
	check(election.Campaign(context.Background(), "Go"))
	granted := bootNanos()
	leader, err := election.Leader(context.Background())
	check(err)
	if string(leader.Kvs[0].Key) != election.Key() {
		log.Fatalf("%s leads beside %s", leader.Kvs[0].Key, election.Key())
	}
	key, created := election.Key(), election.Rev()
	time.Sleep(hold)
	released := bootNanos()
	check(election.Resign(context.Background()))
	fmt.Fprintln(out, key, created, leader.Header.Revision, granted, released)
}

func bootNanos() int64 {
	var now unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_BOOTTIME, &now))
	return now.Nano()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
