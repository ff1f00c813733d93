# Removes locks of processes that are gone, and what their runs have left. Its variables are those of
# unlock.sh.

sub unlock {
    beat(600);
    my $base = $in{base};
    my $folder = folder_of(lock_of($base));
    for my $name (sort grep { /^lock-/ } names_in($folder)) {
        my $lock = "$folder/$name";
        next if -l $lock || !-d _;
        my ($is_gone, $holder) = is_gone("$lock/owner");
        if ($is_gone) {
            # Moved away first, so that none that is taken in this moment is removed.
            my $dead = "$folder/dead-" . substr $name, 5;
            rename $lock, $dead or fail("cannot remove $lock ($!)");
            if (!(is_gone("$dead/owner"))[0]) { rename $dead, $lock; $is_gone = 0 }
            else                              { remove_tree($dead) }
        }
        # Without an owner it is nobody's.
        elsif ($holder eq 'unknown') { $is_gone = rmdir $lock }
        mark($is_gone ? 'removed' : 'held', $holder);
    }
    remove_dead_runs($base, 1) if -d $base;
    return 'ok';
}
