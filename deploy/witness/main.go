// Command witness plays any container of a Pod and writes down what happens to it, and when.
//
// It is an application (a script of delays and an exit code), a client (it calls a URL from its first instruction to
// its last), a proxy (it listens and answers) and always a recorder: every event is one line
//
//	<CLOCK_MONOTONIC in ns> <container> <event> [detail]
//
// on standard output, and at the end of the file /witness/<Pod> if /witness is there. All containers of a node share
// that clock, so the lines of a Pod are in the order in which things happened.
//
//	witness -as app -call http://localhost:15000/ -run "forever" -term "wait 2s; exit 0"
//	witness -as proxy -run "wait 3s; listen 15000; forever"
//	witness -as proxy/preStop -run "wait 1s; exit 1"
//
// -run is the script from the start, -term the one after SIGTERM. See script.go for the steps.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	as := flag.String("as", "app", "the `name` to record under, usually that of the container")
	run := flag.String("run", "forever", "the `script` from the start")
	term := flag.String("term", "exit 0", "the `script` after SIGTERM")
	url := flag.String("call", "", "a `URL` to call from the first instruction to the last")
	every := flag.Duration("every", 50*time.Millisecond, "the pause between two calls")
	patience := flag.Duration("patience", time.Second, "how long a call may take")
	folder := flag.String("records", "/witness", "the `folder` of the records")
	quiet := flag.Bool("quiet", false, "record nothing: for probes")
	flag.Parse()

	steps, err := parse(*run)
	after, err2 := parse(*term)
	if err != nil || err2 != nil || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "witness: cannot read this:", err, err2, flag.Args())
		os.Exit(2)
	}

	record := newRecorder(*folder, *as, *quiet)
	record.event("start")
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	alive, stop := context.WithCancel(context.Background())
	go func() {
		for range signals {
			record.event("TERM")
			stop()
		}
	}()

	calls := startCalls(*url, *every, *patience, record)
	life := &life{record: record, calls: calls}
	life.follow(alive, steps)
	if alive.Err() != nil {
		life.follow(context.Background(), after)
	}
	life.exit(0)
}
