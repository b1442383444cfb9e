// Locks and unlocks a name with the Go client's concurrency.Mutex, COUNT times,
// and prints for each time a line:
//
//	KEY CREATED REVISION GRANTED RELEASED
//
// CREATED is the create_revision of the key, REVISION one at which the server
// showed the lock to be held. GRANTED is the time after Lock has returned and
// RELEASED the one before Unlock is called, in nanoseconds of the boot clock.
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
	if len(os.Args) != 5 {
		log.Fatal("usage: mutex ENDPOINTS NAME COUNT HOLD")
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
		acquire(concurrency.NewMutex(session, name), hold, out)
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
