// Datagrams at a steady rate, and a socket that reads what comes and drops it: both ends of the floor of a flood.
//
// flood send FILE FROM PORT PER_S SECS: sends FILE to PORT of 127.0.0.1, from a port of its own of the address FROM; so many a second,
//   in trains of a millisecond each, one sendmmsg(2) per train. Wherever FILE says "########" each copy has a number of its own in hex. A
//   train that comes late is as much longer, so that the rate is kept; what it is answered is never read.
// flood sink PORT SECS: reads one datagram after the other, and drops it.
//
// It ends after SECS or at SIGTERM, with one line: how many were sent or read, in how many seconds, and what CPU that took.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "until.h"

enum { MOST_BYTES = 2048, MARK = 8, MOST_MARKS = 16, TRAIN = 64, TRAIN_NS = 1000000 };

static long done;

static int open_socket(in_addr_t address, int port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = address};
  int sock = socket(AF_INET, SOCK_DGRAM, 0);
  if (sock < 0) die("socket");
  if (bind(sock, (struct sockaddr *)&at, sizeof at)) die("bind");
  return sock;
}

static void ready(void) {
  puts("@{\"ready\": true}");
  fflush(stdout);
}

static char copies[TRAIN][MOST_BYTES];
static struct iovec parts[TRAIN];
static struct mmsghdr train[TRAIN];
static long marks[MOST_MARKS];
static int marked;

static void load(const char *file) {
  FILE *in = fopen(file, "rb");
  if (!in) die(file);
  size_t bytes = fread(copies[0], 1, MOST_BYTES, in);
  fclose(in);
  for (size_t at = 0; at + MARK <= bytes && marked < MOST_MARKS; at++)
    if (!memcmp(copies[0] + at, "########", MARK)) marks[marked++] = at;
  for (int i = 0; i < TRAIN; i++) {
    memcpy(copies[i], copies[0], bytes);
    parts[i] = (struct iovec){.iov_base = copies[i], .iov_len = bytes};
    train[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
}

static void number(char *copy, uint32_t value) {
  char text[MARK + 1];
  snprintf(text, sizeof text, "%08x", value);
  for (int i = 0; i < marked; i++) memcpy(copy + marks[i], text, MARK);
}

// Whether there is somebody to send to.
static int send_train(int sock, int length) {
  for (int i = 0; i < length; i++) number(copies[i], (uint32_t)(done + i));
  int sent = sendmmsg(sock, train, length, 0);
  if (sent > 0) done += sent;
  return sent > 0;
}

static void flood(const char *from, int port, double per_s, double secs) {
  int sock = open_socket(inet_addr(from), 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(sock, (struct sockaddr *)&to, sizeof to)) die("connect");
  ready();
  int64_t begun_ns = now_ns(), end_ns = begun_ns + (int64_t)(secs * 1e9);
  for (int64_t due_ns = begun_ns; !over && due_ns < end_ns; due_ns += TRAIN_NS) {
    struct timespec at = {.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    for (long due; !over && (due = (long)((now_ns() - begun_ns) / 1e9 * per_s) - done) > 0;)
      if (!send_train(sock, due < TRAIN ? (int)due : TRAIN)) break;
  }
}

static void sink(int port, double secs) {
  int sock = open_socket(htonl(INADDR_LOOPBACK), port), bytes = 4 << 20;
  struct timeval look = {.tv_usec = 100000};
  setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof look);
  ready();
  static char read_in[MOST_BYTES];
  for (int64_t end_ns = now_ns() + (int64_t)(secs * 1e9); !over && now_ns() < end_ns;)
    done += recv(sock, read_in, sizeof read_in, 0) > 0;
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  int64_t begun_ns = now_ns();
  if (argc == 7 && !strcmp(argv[1], "send")) {
    load(argv[2]);
    flood(argv[3], atoi(argv[4]), atof(argv[5]), atof(argv[6]));
  } else if (argc == 4 && !strcmp(argv[1], "sink"))
    sink(atoi(argv[2]), atof(argv[3]));
  else
    return fprintf(stderr, "flood send FILE FROM PORT PER_S SECS | flood sink PORT SECS\n"), 2;
  double took_s = (now_ns() - begun_ns) / 1e9;
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu_us = 1e6 * (used.ru_utime.tv_sec + used.ru_stime.tv_sec) + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
  printf("@{\"done\": %ld, \"took_s\": %.3f, \"cpu_us\": %.0f}\n", done, took_s, cpu_us);
  return 0;
}
