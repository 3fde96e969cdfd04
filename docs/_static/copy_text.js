// A click on the text of a picture copies it.
document.querySelectorAll("figcaption button").forEach((button) => {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.querySelector("code").textContent);
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1500);
  });
});
