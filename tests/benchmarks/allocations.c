/* Count the allocations of Python objects and of their contents, from the call of `count_from_here` on.
 * An object that the interpreter takes from a free list is not an allocation. */

#include <stddef.h>

typedef struct {
    void *context;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *);
} Allocator; /* PyMemAllocatorEx of Python's C API, see its chapter "Memory Management" */

typedef void (*Exchange)(int domain, Allocator *);

static Allocator original[3];
static long long count;
static long long bytes;

static void *counting_malloc(void *domain, size_t size)
{
    Allocator *allocator = domain;
    count++;
    bytes += size;
    return allocator->malloc(allocator->context, size);
}

static void *counting_calloc(void *domain, size_t number, size_t size)
{
    Allocator *allocator = domain;
    count++;
    bytes += number * size;
    return allocator->calloc(allocator->context, number, size);
}

static void *counting_realloc(void *domain, void *old, size_t size)
{
    Allocator *allocator = domain;
    count++;
    bytes += size;
    return allocator->realloc(allocator->context, old, size);
}

static void counting_free(void *domain, void *old)
{
    Allocator *allocator = domain;
    allocator->free(allocator->context, old);
}

void count_from_here(Exchange get, Exchange set)
{
    for (int domain = 1; domain <= 2; domain++) { /* the mem and object domains, which hold the GIL; raw (0) does not */
        get(domain, &original[domain]);
        Allocator counting = {&original[domain], counting_malloc, counting_calloc, counting_realloc, counting_free};
        set(domain, &counting);
    }
}

long long counted(void)
{
    return count;
}

long long counted_bytes(void)
{
    return bytes;
}
