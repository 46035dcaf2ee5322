package main

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// calls asks one URL over and over, on a new connection each time: an open one would outlive the listener behind it.
type calls struct {
	url    string
	client *http.Client
	record *recorder
	stop   chan struct{}
	done   chan struct{}
}

// startCalls makes the first call before it returns, and goes on in the background. Without a URL nothing is called.
func startCalls(url string, every, patience time.Duration, record *recorder) *calls {
	c := &calls{
		url:    url,
		client: &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}},
		record: record,
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	if url == "" {
		return c
	}
	c.call()
	go func() {
		defer close(c.done)
		ticks := time.NewTicker(every)
		defer ticks.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-ticks.C:
				c.call()
			}
		}
	}()
	return c
}

// last ends the calls in the background and makes one more.
func (c *calls) last() {
	if c.url == "" {
		return
	}
	close(c.stop)
	<-c.done
	c.call()
}

func (c *calls) call() {
	if err := c.answered(); err != nil {
		c.record.event("call-failed", err)
	} else {
		c.record.event("call-ok")
	}
}

func (c *calls) answered() error {
	response, err := c.client.Get(c.url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}
