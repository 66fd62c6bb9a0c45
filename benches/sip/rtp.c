// RTP without SIP, for both ends of a bench: packets that say when they were sent, and the floor of who gives them back.
//
// rtp stamp PORT SECS [FIRST COUNT]: listens on PORT of 127.0.0.1. Whoever sends there gets a packet of PCMU per 20 ms, each with
//   channel, due time and sending time (CLOCK_MONOTONIC) as the head of its payload, spread over twenty slots of a millisecond.
//   With FIRST and COUNT it begins by itself, towards COUNT even ports from FIRST on, and takes the time until each packet is back.
// rtp echo FIRST COUNT SECS: a socket for each of these ports and epoll; every packet goes back where it came from.
//
// It ends after SECS or at SIGTERM, with one line: how many packets were sent and heard, what CPU that took, and how long they were away.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "until.h"

enum { HEADER = 12, PAYLOAD = 160, STAMP = 24, SLOTS = 20, SLOT_NS = 1000000, DRAIN_NS = 200000000, MOST = 4096, MOST_TIMED = 1 << 20, EVENTS = 64 };

static long sent, heard;

static int open_socket(int port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int bytes = 4 << 20, sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  if (sock < 0) die("socket");
  setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  if (bind(sock, (struct sockaddr *)&at, sizeof at)) die("bind");
  return sock;
}

struct stream {
  struct sockaddr_in to;
  uint32_t timestamp;
  uint16_t sequence;
};

static struct stream streams[MOST];
static int count;

static void add(struct sockaddr_in to) {
  if (count < MOST) streams[count++].to = to;
}

static void send_stamped(int sock, int channel, int64_t due_ns) {
  uint8_t packet[HEADER + PAYLOAD];
  struct stream *stream = &streams[channel];
  memset(packet, 0xff, sizeof packet);
  packet[0] = 0x80;
  packet[1] = stream->sequence ? 0 : 0x80;
  uint16_t sequence = htons(stream->sequence++);
  uint32_t timestamp = htonl(stream->timestamp), ssrc = htonl(0x10000 + channel), number = channel;
  memcpy(packet + 2, &sequence, 2);
  memcpy(packet + 4, &timestamp, 4);
  memcpy(packet + 8, &ssrc, 4);
  stream->timestamp += PAYLOAD;
  uint8_t *stamp = packet + HEADER;
  memset(stamp, 0, STAMP);
  stamp[0] = 0xf8;
  memcpy(stamp + 4, &number, 4);
  memcpy(stamp + 8, &due_ns, 8);
  int64_t at = now_ns();
  memcpy(stamp + 16, &at, 8);
  sent += sendto(sock, packet, sizeof packet, 0, (struct sockaddr *)&stream->to, sizeof stream->to) > 0;
}

static int64_t took_ns[MOST_TIMED];
static int timed, is_timed;

static void take_time(const uint8_t *packet) {
  int64_t at;
  memcpy(&at, packet + HEADER + 16, sizeof at);
  if (timed < MOST_TIMED) took_ns[timed++] = now_ns() - at;
}

static int compare(const void *one, const void *other) {
  int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
  return (a > b) - (a < b);
}

static double took_us(int percent) {
  return timed ? took_ns[(int64_t)timed * percent / 100] / 1e3 : 0;
}

static void listen_for_new(int sock) {
  static uint8_t known[65536];
  uint8_t packet[2048];
  struct sockaddr_in from;
  socklen_t length = sizeof from;
  while (recvfrom(sock, packet, sizeof packet, 0, (struct sockaddr *)&from, &length) > 0) {
    heard++;
    if (is_timed) take_time(packet);
    uint8_t *seen = &known[ntohs(from.sin_port)];
    if (!*seen) add(from);
    *seen = 1;
    length = sizeof from;
  }
}

static void wait_until(int sock, int64_t at_ns) {
  for (int64_t left; !over && (left = at_ns - now_ns()) > 0;) {
    struct pollfd in = {.fd = sock, .events = POLLIN};
    struct timespec most = {.tv_nsec = left};
    if (ppoll(&in, 1, &most, NULL) > 0) listen_for_new(sock);
  }
}

static void stamp(int port, double secs, int first, int number) {
  int sock = open_socket(port);
  is_timed = number > 0;
  for (int i = 0; i < number; i++) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(first + 2 * i), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    add(to);
  }
  int64_t due_ns = now_ns(), end_ns = due_ns + (int64_t)(secs * 1e9);
  for (int slot = 0; !over && due_ns < end_ns; slot = (slot + 1) % SLOTS, due_ns += SLOT_NS) {
    wait_until(sock, due_ns);
    for (int channel = slot; channel < count; channel += SLOTS) send_stamped(sock, channel, due_ns);
  }
  // What is under way still comes.
  wait_until(sock, now_ns() + DRAIN_NS);
}

static void echo(int first, int number, double secs) {
  int poll = epoll_create1(0);
  for (int i = 0; i < number; i++) {
    struct epoll_event in = {.events = EPOLLIN, .data.fd = open_socket(first + 2 * i)};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, in.data.fd, &in)) die("epoll_ctl");
  }
  puts("@{\"ready\": true}");
  fflush(stdout);
  struct epoll_event events[EVENTS];
  for (int64_t end_ns = now_ns() + (int64_t)(secs * 1e9); !over && now_ns() < end_ns;) {
    int found = epoll_wait(poll, events, EVENTS, 100);
    for (int i = 0; i < found; i++) {
      uint8_t packet[2048];
      struct sockaddr_in from;
      socklen_t length = sizeof from;
      ssize_t bytes;
      while ((bytes = recvfrom(events[i].data.fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &length)) > 0) {
        heard++;
        sent += sendto(events[i].data.fd, packet, bytes, 0, (struct sockaddr *)&from, length) == bytes;
        length = sizeof from;
      }
    }
  }
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  if (argc >= 4 && !strcmp(argv[1], "stamp"))
    stamp(atoi(argv[2]), atof(argv[3]), argc > 5 ? atoi(argv[4]) : 0, argc > 5 ? atoi(argv[5]) : 0);
  else if (argc == 5 && !strcmp(argv[1], "echo"))
    echo(atoi(argv[2]), atoi(argv[3]), atof(argv[4]));
  else
    return fprintf(stderr, "rtp stamp PORT SECS [FIRST COUNT] | rtp echo FIRST COUNT SECS\n"), 2;
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu_us = 1e6 * (used.ru_utime.tv_sec + used.ru_stime.tv_sec) + used.ru_utime.tv_usec + used.ru_stime.tv_usec;
  qsort(took_ns, timed, sizeof *took_ns, compare);
  printf("@{\"sent\": %ld, \"heard\": %ld, \"cpu_us\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", sent, heard, cpu_us,
         took_us(50), took_us(99));
  return 0;
}
